#include "cache/directory/directory_tier.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <system_error>
#include <unordered_map>
#include <vector>

#include "cache/directory/directory_opening.h"
#include "cache/directory/directory_state.h"

namespace alnair {

using Clock = std::chrono::steady_clock;

DirectoryTier::DirectoryTier(DirectoryOptions options) {
  while (options.directory.size() > 1 && options.directory.back() == '/') options.directory.pop_back();
  if (options.files == nullptr) options.files = std::make_shared<FileSystem>(options.mode);
  SegmentFiles files(State::folder(options), options.files, options.id, options.name);
  open_directory(options, files);
  if (options.root.empty()) {  // a shared one is named alike by all, and may hang
    std::error_code ignored;
    const auto canonical = std::filesystem::weakly_canonical(options.directory, ignored);
    if (!canonical.empty()) options.directory = canonical;
  }
  auto share = make_share(options);
  const DirectoryShare::Change change = share->change();
  auto index = make_index(options, *share);
  adopt_limits(options, *share, index->table().shared());
  LockFile::Guard joined = share->join();
  state_ = std::make_shared<State>(std::move(options), std::move(share), std::move(index), std::move(joined));
}

DirectoryTier::~DirectoryTier() {
  flush();
  state_->writing.close();
  state_->reading.close();
}

std::string_view DirectoryTier::name() const { return state_->options.name; }

void DirectoryTier::get(std::span<const ContentHash> hashes, Found found) {
  state_->seal_aged();
  state_->tend();
  if (state_->scanned) state_->rescan_sometimes();
  std::vector<PlacedRead> wanted(hashes.size());
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    wanted[i].index = i;
    wanted[i].hash = hashes[i];
  }
  state_->read(std::move(wanted), std::make_shared<const Found>(std::move(found)), false);
}

void DirectoryTier::contains(std::span<const ContentHash> hashes, std::span<bool> present) {
  if (!state_->scanned) run_and_wait(state_->writing, [state = state_] { state->scan(); });
  state_->rescan_sometimes();
  const bool reachable = !state_->reading.stalled();
  for (std::size_t i = 0; i < hashes.size(); ++i) present[i] = reachable && state_->has(hashes[i]);
}

void DirectoryTier::put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) {
  struct Job {
    std::vector<PutRequest> requests;  // copies: they share the bytes, and live until the write returns
    std::vector<PutOutcome> outcomes;
    std::vector<std::size_t> wanted;
  };
  auto job = std::make_shared<Job>();
  job->outcomes.assign(requests.size(), PutOutcome::kRefused);
  state_->seal_aged();
  state_->tend();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].transit) continue;  // node memory's
    if (state_->has(requests[i].hash)) {
      job->outcomes[i] = PutOutcome::kPresent;
    } else {
      job->wanted.push_back(i);
    }
  }
  bool answered = true;
  if (!job->wanted.empty()) {
    job->requests.assign(requests.begin(), requests.end());
    answered = run_and_wait(state_->writing, [job, state = state_] {
      if (!state->scanned) state->scan();
      std::vector<const PutRequest*> chunks;
      std::vector<PutOutcome*> results;
      std::unordered_map<ContentHash, std::size_t> first;
      std::vector<std::pair<std::size_t, std::size_t>>
          repeated;  // a request, and the one before it that it repeats
      for (const std::size_t i : job->wanted) {
        if (state->has(job->requests[i].hash)) {
          job->outcomes[i] = PutOutcome::kPresent;
        } else if (const auto [known, fresh] = first.emplace(job->requests[i].hash, i); !fresh) {
          repeated.emplace_back(i, known->second);
        } else {
          chunks.push_back(&job->requests[i]);
          results.push_back(&job->outcomes[i]);
        }
      }
      state->writer.put(chunks, results);
      for (const auto& [again, before] : repeated) {
        if (job->outcomes[before] == PutOutcome::kStored) job->outcomes[again] = PutOutcome::kPresent;
      }
    });
  }
  std::uint64_t refused = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    // A write that hangs may be changing its outcomes: they are not looked at.
    const PutOutcome outcome = answered ? job->outcomes[i] : PutOutcome::kRefused;
    refused += outcome == PutOutcome::kRefused;
    if (i < outcomes.size()) outcomes[i] = outcome;
  }
  if (refused > 0) metrics().add(state_->options.id, TierCounter::kRefused, refused);
}

void DirectoryTier::hold_dataset(DatasetTag dataset) { state_->share->hold(dataset); }

void DirectoryTier::release_dataset(DatasetTag dataset) { state_->share->release(dataset); }

void DirectoryTier::erase(const ContentHash& hash) {
  for (const ChunkPlace& place : state_->index->find(hash)) state_->index->erase(hash, place);
}

void DirectoryTier::flush() {
  if (!state_->writer.has_older(Clock::time_point::max())) return;
  run_and_wait(state_->writing, [state = state_] { state->writer.seal(); });
  state_->later([](State& state) { state.writer.merge(); });
}

void DirectoryTier::name_chunks(DatasetTag dataset, std::uint64_t version, NamedChunks names) {
  if (state_->options.root.empty() || state_->options.durability.count() == 0) return;
  state_->collector.name(dataset, version, std::move(names));
  state_->later([](State& state) { state.collector.tell(); });
}

void DirectoryTier::unname_chunks(DatasetTag dataset, std::uint64_t version) {
  if (state_->options.root.empty() || state_->options.durability.count() == 0) return;
  state_->later([dataset, version](State& state) {
    state.collector.tell();  // for the last time
    state.collector.unname(dataset, version);
  });
}

bool DirectoryTier::name_again(DatasetTag dataset, std::uint64_t version) {
  if (state_->options.root.empty() || state_->options.durability.count() == 0) return true;
  const auto named = std::make_shared<std::atomic<bool>>(false);
  const bool answered = run_and_wait(state_->writing, [=, state = state_] {
    if (!state->scanned) state->scan();
    *named = state->collector.tell_again(dataset, version);
  });
  return *named || !answered;
}

void DirectoryTier::tend() { state_->tend(); }

void DirectoryTier::durable(std::span<const ContentHash> hashes, std::span<bool> durable) {
  struct Look {
    std::vector<ContentHash> hashes;
    std::vector<char> found;
  };
  const auto look = std::make_shared<Look>(Look{{hashes.begin(), hashes.end()}, {}});
  const bool answered = run_and_wait(state_->writing, [look, state = state_] {
    if (!state->scanned) state->scan();
    look->found = state->writer.sealed(look->hashes);
  });
  for (std::size_t i = 0; i < hashes.size(); ++i) durable[i] = answered && state_->options.durable && look->found[i];
}

bool DirectoryTier::knows_all() {
  const SegmentTable& table = state_->index->table();
  return table.shared().lost == 0 && table.all().size() < table.slots();
}

std::string DirectoryTier::identity() {
  const auto identity = std::make_shared<std::string>();
  const bool answered =
      run_and_wait(state_->writing, [identity, state = state_] { *identity = state->files.identity(kReliedOnFile); });
  return answered ? *identity : "";
}

TierUsage DirectoryTier::usage() const {
  run_and_wait(state_->writing, [state = state_] {
    if (!state->scanned) state->scan();
    if (const auto account = state->space.account()) {
      state->used_bytes = account->used_bytes;
      state->limit_bytes = account->limit_bytes;
    }
  });
  TierUsage usage;
  usage.used_bytes = state_->used_bytes;
  usage.limit_bytes = state_->limit_bytes;
  for (const auto& [slot, segment] : state_->index->table().all()) usage.chunks += segment.chunks;
  usage.chunks += state_->open_chunks.size();
  return usage;
}

}  // namespace alnair
