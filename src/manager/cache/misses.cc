#include "manager/cache/misses.h"

#include <algorithm>
#include <utility>

#include "alnair/core/error.h"
#include "core/block_signals.h"

namespace alnair::manager {
namespace {

constexpr std::size_t kDatasets = 64;                    // kept open
constexpr std::size_t kAnswers = 100'000;                // remembered of each
constexpr std::chrono::seconds kAnswerLife{2};           // tiers forget: then it is looked again
constexpr std::chrono::seconds kWithoutQuestions{600};   // then a dataset is closed

MissAnswer failed(const std::string& why) { return {.state = MissAnswer::State::kFailed, .failure = why}; }

}  // namespace

Misses::Misses(Open open, Presign presign, std::size_t threads)
    : open_(std::move(open)), presign_(std::move(presign)) {
  const BlockSignals block;
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

Misses::~Misses() { stop(); }

void Misses::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  done_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

std::vector<MissAnswer> Misses::answer(const DatasetRecord& dataset, const std::string& domain,
                                       std::span<const MissedChunk> chunks, std::chrono::milliseconds patience) {
  const auto until = Clock::now() + patience;
  std::unique_lock lock(mutex_);
  const std::shared_ptr<Asked> asked = asked_for(dataset, domain);
  if (asked->answers.size() > kAnswers || asked->last_use - asked->renewed > kAnswerLife) {
    std::erase_if(asked->answers, [](const auto& entry) { return entry.second.state != MissAnswer::State::kPending; });
    asked->renewed = asked->last_use;
  }
  for (const MissedChunk& chunk : chunks)
    if (asked->answers.try_emplace(chunk).second) asked->wanted.push_back(chunk);
  if (!asked->wanted.empty() && !std::exchange(asked->queued, true)) {
    queue_.push_back(asked);
    work_.notify_one();
  }
  const auto is_pending = [&](const MissedChunk& chunk) {
    const auto found = asked->answers.find(chunk);
    return found == asked->answers.end() || found->second.state == MissAnswer::State::kPending;
  };
  done_.wait_until(lock, until, [&] { return stopping_ || std::none_of(chunks.begin(), chunks.end(), is_pending); });
  std::vector<MissAnswer> answers;
  for (const MissedChunk& chunk : chunks) {
    const auto found = asked->answers.find(chunk);
    answers.push_back(found == asked->answers.end() ? MissAnswer() : found->second);
  }
  return answers;
}

std::string Misses::known_hashes(const DatasetRecord& dataset, const std::string& domain, std::uint64_t first,
                                 std::uint64_t most) {
  std::shared_ptr<Asked> asked;
  {
    const std::lock_guard lock(mutex_);
    asked = asked_for(dataset, domain);
  }
  return chunks_of(*asked)->known_hashes(first, most);
}

// With mutex_ held.
std::shared_ptr<Misses::Asked> Misses::asked_for(const DatasetRecord& dataset, const std::string& domain) {
  forget_old();
  auto& slot = asked_[dataset.id + "@" + dataset.version];
  if (slot == nullptr) {
    slot = std::make_shared<Asked>();
    slot->dataset = dataset;
    slot->domain = domain;
  }
  slot->last_use = Clock::now();
  return slot;
}

std::shared_ptr<DatasetChunks> Misses::chunks_of(Asked& asked) {
  {
    const std::lock_guard lock(mutex_);
    if (asked.chunks != nullptr) return asked.chunks;
  }
  auto chunks = open_(asked.dataset, asked.domain);
  const std::lock_guard lock(mutex_);
  if (asked.chunks == nullptr) asked.chunks = std::move(chunks);
  return asked.chunks;
}

void Misses::forget_old() {
  const auto now = Clock::now();
  std::erase_if(asked_, [&](const auto& entry) { return now - entry.second->last_use > kWithoutQuestions; });
  while (asked_.size() > kDatasets)
    asked_.erase(std::min_element(asked_.begin(), asked_.end(), [](const auto& a, const auto& b) {
      return a.second->last_use < b.second->last_use;
    }));
}

void Misses::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const std::shared_ptr<Asked> asked = std::move(queue_.front());
    queue_.pop_front();
    asked->queued = false;
    const std::vector<MissedChunk> wanted = std::exchange(asked->wanted, {});
    lock.unlock();
    serve(*asked, wanted);
    lock.lock();
    done_.notify_all();
  }
}

void Misses::serve(Asked& asked, const std::vector<MissedChunk>& wanted) {
  std::vector<MissAnswer> answers;
  try {
    answers = bring(*chunks_of(asked), asked.dataset, wanted);
  } catch (const std::exception& error) {
    answers.assign(wanted.size(), failed(error.what()));
  }
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < wanted.size(); ++i) asked.answers[wanted[i]] = std::move(answers[i]);
}

// Looks, brings what is absent, looks again.
std::vector<MissAnswer> Misses::bring(DatasetChunks& chunks, const DatasetRecord& dataset,
                                      const std::vector<MissedChunk>& wanted) {
  std::vector<MissAnswer> answers(wanted.size(), failed("the dataset has no such chunk"));
  std::vector<ChunkOf> known;
  std::vector<std::size_t> positions;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto object = chunks.manifest().find(wanted[i].key);
    if (!object || wanted[i].chunk >= chunks.chunks_of(*object)) continue;
    known.push_back({*object, wanted[i].chunk});
    positions.push_back(i);
  }
  auto places = chunks.find(known);
  std::vector<ChunkOf> absent;
  std::vector<std::size_t> of_known;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (places[i].place != Place::kNowhere) continue;
    absent.push_back(known[i]);
    of_known.push_back(i);
  }
  std::vector<std::string> failures(known.size());
  if (!absent.empty()) {
    const auto errors = chunks.bring(absent, [this] {
      const std::lock_guard lock(mutex_);
      if (stopping_) throw CancelledError("the manager is stopping");
    });
    for (std::size_t i = 0; i < absent.size(); ++i)
      if (errors[i] != nullptr) failures[of_known[i]] = message_of(errors[i]);
    places = chunks.find(known);
  }
  for (std::size_t i = 0; i < known.size(); ++i) {
    MissAnswer& answer = answers[positions[i]];
    if (places[i].place != Place::kNowhere)
      answer = {.state = places[i].place == Place::kRedis ? MissAnswer::State::kRedis : MissAnswer::State::kDirectory,
                .hash = places[i].hash->hex()};
    else if (!failures[i].empty())
      answer = failed(failures[i]);
    else
      answer = {.state = MissAnswer::State::kSource, .url = presign_(dataset, wanted[positions[i]].key)};
  }
  return answers;
}

}  // namespace alnair::manager
