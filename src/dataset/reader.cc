#include "dataset/reader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>

#include <fmt/format.h>

#include "core/log.h"
#include "core/metrics.h"
#include "core/random.h"
#include "dataset/wait_report.h"

namespace alnair {
namespace {

constexpr auto kInterruptEvery = std::chrono::milliseconds(100);
constexpr std::uint64_t kMostAhead = 256ull << 20;

// Of transit. What is to be read lies in as much again of what was read already, as segments go whole and requests end in no order;
// the rest is for what is being appended to, what views still hold, and what readers bring themselves.
constexpr std::uint64_t kTransitPart = 4;

// Of what waits in a process that reads alone (TieredCache::Options::landing_bytes), a quarter likewise: transit may be small.
constexpr std::uint64_t kMostAheadAlone = 16ull << 20;

// Tag of look-ahead that was cancelled while it was on its way.
constexpr DatasetTag kNobodys = ~DatasetTag{0};

NamedChunks::Names names_of(const SharedHashes& hashes) {
  NamedChunks::Names names;
  for (std::uint64_t ordinal = 0; ordinal < hashes.chunks(); ++ordinal)
    if (const auto hash = hashes.get(ordinal)) names.chunks.push_back(first64(*hash));
  names.complete = names.chunks.size() == hashes.chunks();
  std::sort(names.chunks.begin(), names.chunks.end());
  names.chunks.erase(std::unique(names.chunks.begin(), names.chunks.end()), names.chunks.end());
  return names;
}

bool fits(const TierUsage& tier, std::uint64_t bytes) { return tier.limit_bytes == 0 || bytes <= tier.limit_bytes; }

}  // namespace

class Reader::Origin : public ChunkOrigin {
 public:
  Origin(const Parts& parts, std::shared_ptr<ArrivalCounts> arrivals)
      : source_(parts.source), manifest_(parts.manifest), hashes_(parts.hashes), arrivals_(std::move(arrivals)),
        catalog_(parts.node->catalog),
        tag_(parts.tag),
        fits_lower_tiers_(parts.node->disk != nullptr && fits(parts.node->disk->usage(), parts.manifest->total_bytes())) {}

  DatasetTag tag() const override { return tag_; }
  bool fits_lower_tiers() const override { return fits_lower_tiers_; }
  ObjectSource& source() override { return *source_; }
  ObjectInfo object(std::uint64_t index) const override { return manifest_->object(index); }
  std::optional<ContentHash> known_hash(const ChunkRead& chunk) const override { return hashes_->get(chunk.ordinal); }
  void find_hashes(std::span<const ChunkRead> chunks, std::span<std::optional<ContentHash>> hashes) override {
    if (catalog_ == nullptr) return;
    std::vector<ChunkId> ids;
    ids.reserve(chunks.size());
    for (const ChunkRead& chunk : chunks) ids.push_back(chunk.id);
    catalog_->find_hashes(ids, hashes);
    for (std::size_t i = 0; i < chunks.size(); ++i)
      if (hashes[i]) hashes_->set(chunks[i].ordinal, *hashes[i]);
  }
  void learned_hashes(std::span<const HashedChunk> chunks) override {
    std::vector<HashRecord> records;
    for (const HashedChunk& chunk : chunks) {
      arrivals_->add(chunk.read.ordinal);
      if (hashes_->get(chunk.read.ordinal) == chunk.hash) continue;
      hashes_->set(chunk.read.ordinal, chunk.hash);
      records.push_back({chunk.read.id, chunk.hash});
    }
    if (catalog_ != nullptr && !records.empty()) catalog_->record_hashes(records);
  }
  std::uint16_t arrivals(const ChunkRead& chunk) const override { return arrivals_->get(chunk.ordinal); }

 private:
  const std::shared_ptr<ObjectSource> source_;
  const std::shared_ptr<const Manifest> manifest_;
  const std::shared_ptr<SharedHashes> hashes_;
  const std::shared_ptr<ArrivalCounts> arrivals_;
  const std::shared_ptr<Catalog> catalog_;
  const DatasetTag tag_;
  const bool fits_lower_tiers_;
};

// The state of one read() call; callbacks that come late keep it alive.
struct Reader::Batch {
  // A chunk of a range: where its bytes go.
  struct Piece {
    std::uint64_t sample;
    std::uint64_t object_index;
    std::uint64_t chunk;        // of the object
    std::uint64_t skip;         // bytes of the chunk before the range
    std::uint64_t take;         // bytes of the chunk in the range
    std::uint64_t destination;  // in the sample's buffer, where a range spans several chunks
  };
  std::vector<Piece> pieces;
  std::vector<ContentHash> hashes;  // of the pieces whose hashes the node knew
  std::vector<std::size_t> missed;  // pieces that node memory did not have
  std::vector<Sample> samples;
  std::vector<Buffer> buffers;      // of samples that span several chunks; else empty
  std::vector<std::uint64_t> left;  // pieces of each sample that are still to come
  std::optional<Counter> cause;     // what to count the wait as; none: all was in node memory

  std::mutex mutex;
  std::condition_variable done;
  std::uint64_t pending = 0;  // pieces

  void land(std::size_t i, View bytes, std::exception_ptr error) {
    const Piece& piece = pieces[i];
    View part = error ? View() : bytes.part(piece.skip, piece.take);
    // Each piece has bytes of its own to write, so the copy needs no lock.
    const bool assembled = buffers[piece.sample].size() > 0;
    if (assembled && !part.empty())
      std::memcpy(buffers[piece.sample].data() + piece.destination, part.data(), part.size());
    const std::lock_guard lock(mutex);
    Sample& sample = samples[piece.sample];
    if (error && !sample.error) sample.error = std::move(error);
    if (!assembled) sample.bytes = std::move(part);
    if (--left[piece.sample] == 0) {
      if (sample.error)
        sample.bytes = {};
      else if (assembled)
        sample.bytes = std::move(buffers[piece.sample]).freeze();
    }
    if (--pending == 0) done.notify_all();
  }
};

Reader::Reader(Parts parts)
    : parts_(std::move(parts)),
      arrivals_(std::make_shared<ArrivalCounts>(parts_.node->share_directory, named_version())),
      origin_(std::make_shared<Origin>(parts_, arrivals_)),
      prefetcher_({.size_of = [this](std::uint64_t index) { return bytes_ahead(index); },
                   .mark_of = [this](std::uint64_t index) { return mark_of(index); },
                   .start = [this](std::span<const Prefetcher::Object> objects,
                                   std::function<void(std::uint64_t)> landed) { bring(objects, landed); },
                   .must_wait = [this] { return parts_.node->cache->fill_is_behind(); },
                   .room = [this] { return room_ahead(); },
                   .consumed = [this](std::span<const std::uint64_t> indices) {
                     if (parts_.node->uses != nullptr) parts_.node->uses->used(known_hashes(indices));
                   }}) {
  for (const auto& tier : parts_.node->tiers())
    if (tier != nullptr) tier->hold_dataset(parts_.tag);
  if (parts_.node->spill != nullptr)
    parts_.node->spill->name_chunks(parts_.tag, named_version(), {[hashes = parts_.hashes] { return names_of(*hashes); }});
}

std::uint64_t named_version(const std::string& version, std::uint64_t chunk_size) {
  return checksum64(std::as_bytes(std::span(version)), chunk_size);
}

std::uint64_t Reader::named_version() const {
  return alnair::named_version(parts_.manifest->version(), parts_.chunking->chunk_size());
}

Reader::~Reader() {
  cancel_prefetch();
  for (const auto& tier : parts_.node->tiers())
    if (tier != nullptr) tier->release_dataset(parts_.tag);
  if (parts_.node->spill != nullptr) parts_.node->spill->unname_chunks(parts_.tag, named_version());
}

ChunkRead Reader::chunk_read(std::uint64_t object_index, std::uint64_t chunk) const {
  const ObjectInfo object = parts_.manifest->object(object_index);
  const ChunkRange range = parts_.chunking->range(object.size, chunk);
  return {.id = parts_.namer->name(object, chunk),
          .object_index = object_index,
          .ordinal = parts_.chunking->ordinal(object_index, chunk),
          .offset = range.offset,
          .length = range.length};
}

std::vector<Sample> Reader::read(std::span<const Range> ranges, const Interrupt& interrupt) {
  const auto started = std::chrono::steady_clock::now();
  const auto batch = std::make_shared<Batch>();
  const std::uint64_t chunk_size = parts_.chunking->chunk_size();
  batch->samples.resize(ranges.size());
  batch->buffers.resize(ranges.size());
  batch->left.resize(ranges.size());
  batch->pieces.reserve(ranges.size());
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const Range& range = ranges[i];
    if (range.length == 0) continue;
    const std::uint64_t end = range.offset + range.length;
    const std::uint64_t first = range.offset / chunk_size, last = (end - 1) / chunk_size;
    if (first != last) batch->buffers[i] = Buffer(range.length);
    batch->left[i] = last - first + 1;
    for (std::uint64_t chunk = first; chunk <= last; ++chunk) {
      const std::uint64_t begin = std::max(range.offset, chunk * chunk_size);
      const std::uint64_t until = std::min(end, (chunk + 1) * chunk_size);
      batch->pieces.push_back(
          {i, range.index, chunk, begin - chunk * chunk_size, until - begin, begin - range.offset});
    }
  }
  batch->pending = batch->pieces.size();
  start(batch);

  {
    std::unique_lock lock(batch->mutex);
    std::optional<WaitReport> report;
    while (!batch->done.wait_for(lock, kInterruptEvery, [&] { return batch->pending == 0; })) {
      if (!report) report.emplace(started, WaitReport::now_counted());
      const auto message = report->due(WaitReport::Clock::now(), WaitReport::now_counted(), [&] {
        const auto waiting = std::ranges::find_if(batch->pieces, [&](const Batch::Piece& p) { return batch->left[p.sample] > 0; });
        return fmt::format("{} of {}", parts_.manifest->key(waiting->object_index), parts_.source->identity());
      });
      lock.unlock();
      if (message) log(LogLevel::kWarning, "{}", *message);
      if (interrupt) interrupt();
      lock.lock();
    }
  }
  std::vector<ContentHash>& consumed = batch->hashes;
  for (const std::size_t i : batch->missed)  // what was fetched may have been known by another hash before
    if (const auto hash = known_hash(batch->pieces[i].object_index, batch->pieces[i].chunk)) consumed.push_back(*hash);
  parts_.node->cache->consume(consumed);

  std::uint64_t bytes = 0;
  for (const Sample& sample : batch->samples) bytes += sample.bytes.size();
  metrics().add(Counter::kReads, ranges.size());
  metrics().add(Counter::kReadBytes, bytes);
  const auto waited = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - started);
  metrics().add(Counter::kWaitMicros, static_cast<std::uint64_t>(waited.count()));
  if (batch->cause) metrics().add(*batch->cause, static_cast<std::uint64_t>(waited.count()));
  return std::move(batch->samples);
}

void Reader::start(const std::shared_ptr<Batch>& batch) {
  // Fast path: the node knows the hash and has the bytes in memory. No key or id is computed.
  std::vector<std::size_t> known, &missed = batch->missed;
  known.reserve(batch->pieces.size());
  batch->hashes.reserve(batch->pieces.size());
  for (std::size_t i = 0; i < batch->pieces.size(); ++i) {
    if (const auto hash = known_hash(batch->pieces[i].object_index, batch->pieces[i].chunk)) {
      known.push_back(i);
      batch->hashes.push_back(*hash);
    } else {
      missed.push_back(i);
    }
  }
  parts_.node->cache->find_in_memory(batch->hashes, [&](std::size_t i, std::optional<View> view) {
    const auto& piece = batch->pieces[known[i]];
    const std::uint64_t size = parts_.manifest->object_size(piece.object_index);
    if (view && view->size() == parts_.chunking->range(size, piece.chunk).length)
      batch->land(known[i], std::move(*view), nullptr);
    else
      missed.push_back(known[i]);
  });
  if (missed.empty()) return;

  std::sort(missed.begin(), missed.end());  // neighbouring chunks of an object side by side
  std::vector<ChunkRead> chunks;
  chunks.reserve(missed.size());
  batch->cause = Counter::kWaitTiersMicros;
  for (const std::size_t i : missed) {
    chunks.push_back(chunk_read(batch->pieces[i].object_index, batch->pieces[i].chunk));
    // A single read may be the first of several; a batch is held as long as it is used.
    chunks.back().once = batch->samples.size() > 1 && batch->pieces[i].take == chunks.back().length;
    // What no process of this node has read yet: the source nearly always, else the catalog knows it of an earlier life.
    if (!parts_.hashes->get(chunks.back().ordinal)) batch->cause = Counter::kWaitSourceMicros;
  }
  std::vector<std::uint64_t> objects;
  objects.reserve(batch->pieces.size());
  for (const Batch::Piece& piece : batch->pieces) objects.push_back(piece.object_index);
  prefetcher_.draw(objects);
  parts_.node->cache->fetch(origin_, chunks, [batch](std::size_t i, View bytes, std::exception_ptr error) {
    batch->land(batch->missed[i], std::move(bytes), std::move(error));
  });
}

void Reader::prefetch(std::vector<std::uint64_t> order, std::uint64_t budget_bytes, bool for_this_process) {
  reads_here_ = for_this_process;
  if (most_ahead() == 0) return;  // nowhere to put it
  {
    const std::lock_guard lock(ahead_mutex_);
    hold_look_ahead(random_word() | 1);
  }
  prefetcher_.set_order(std::move(order), budget_bytes > 0 ? budget_bytes : kMostAhead);
}

void Reader::cancel_prefetch() {
  prefetcher_.cancel();
  const std::lock_guard lock(ahead_mutex_);
  hold_look_ahead(0);
  hold_look_ahead(0);
}

// What the order before has brought and nobody read is held until the next one: with a new epoch comes the order that the last one's
// end has guessed. ahead_mutex_ is held.
void Reader::hold_look_ahead(DatasetTag tag) {
  const bool was_held = last_ahead_ != 0 || ahead_ != 0;
  if (last_ahead_ != 0) parts_.node->memory->release_dataset(last_ahead_);
  last_ahead_ = ahead_.exchange(tag);
  if (tag != 0) parts_.node->memory->hold_dataset(tag);
  const bool is_held = last_ahead_ != 0 || tag != 0;
  if (parts_.node->seat == nullptr) return;
  if (is_held && !was_held) parts_.node->seat->join();
  if (was_held && !is_held) parts_.node->seat->leave();
}

std::uint64_t Reader::processes() const { return parts_.node->seat != nullptr ? parts_.node->seat->taken() : 1; }

std::uint64_t Reader::most_ahead() const {
  const auto& memory = parts_.node->memory;
  return memory == nullptr ? 0 : std::min(kMostAhead, memory->limits().transit / kTransitPart);
}

std::uint64_t Reader::room_ahead() const {
  if (reads_here_ && parts_.node->seat != nullptr && parts_.node->seat->is_alone()) return std::max(most_ahead(), kMostAheadAlone);
  return most_ahead() / processes();
}

std::uint64_t Reader::chunks_ahead(std::uint64_t object_size) const {
  if (object_size == 0) return 0;  // an empty object needs no read
  const std::uint64_t first = parts_.chunking->range(object_size, 0).length;
  if (first > parts_.node->memory->largest_chunk()) return 0;
  return std::clamp<std::uint64_t>(most_ahead() / first, 1, parts_.chunking->chunks_of(object_size));
}

std::uint64_t Reader::bytes_ahead(std::uint64_t index) const {
  const std::uint64_t size = parts_.manifest->object_size(index);
  return std::min(size, chunks_ahead(size) * parts_.chunking->chunk_size());
}

std::uint64_t Reader::mark_of(std::uint64_t index) const {
  const std::uint64_t chunks = chunks_ahead(parts_.manifest->object_size(index));
  std::uint64_t mark = 0;
  for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) mark += arrivals_->get(parts_.chunking->ordinal(index, chunk));
  return mark;
}

void Reader::bring(std::span<const Prefetcher::Object> objects, const std::function<void(std::uint64_t)>& landed) {
  std::vector<ChunkRead> chunks;
  std::vector<std::uint64_t> owners;  // position in `objects` of each chunk
  std::vector<std::uint64_t> left(objects.size());
  const auto add_missing = [&](std::uint64_t owner) {
    const std::uint64_t index = objects[owner].index, before = chunks.size();
    std::uint64_t mark = 0;
    for (std::uint64_t chunk = 0; chunk < chunks_ahead(parts_.manifest->object_size(index)); ++chunk) {
      const std::uint64_t ordinal = parts_.chunking->ordinal(index, chunk);
      const std::uint16_t arrivals = arrivals_->get(ordinal);
      mark += arrivals;
      const auto hash = parts_.hashes->get(ordinal);
      if (hash && parts_.node->cache->in_memory(*hash)) continue;
      chunks.push_back(chunk_read(index, chunk));
      chunks.back().arrivals = arrivals;
      chunks.back().once = reads_here_;
    }
    if (mark != objects[owner].mark) chunks.resize(before);  // somebody brings it just now
    owners.resize(chunks.size(), owner);
    left[owner] = chunks.size() - before;
  };
  for (std::size_t i = 0; i < objects.size(); ++i) add_missing(i);
  if (const auto there = std::ranges::count(left, 0u); there > 0) landed(static_cast<std::uint64_t>(there));
  if (chunks.empty()) return;

  struct Progress {
    std::vector<std::uint64_t> owners;
    std::vector<std::atomic<std::uint64_t>> left;
    std::function<void(std::uint64_t)> landed;
  };
  const auto progress = std::make_shared<Progress>();
  progress->owners = std::move(owners);
  progress->left = std::vector<std::atomic<std::uint64_t>>(objects.size());
  progress->landed = landed;
  for (std::size_t i = 0; i < objects.size(); ++i) progress->left[i] = left[i];
  metrics().add(Counter::kPrefetchedChunks, chunks.size());
  // An error is not lost: the read of that object meets it again.
  const auto done = [progress](std::size_t i, const View&, const std::exception_ptr&) {
    if (--progress->left[progress->owners[i]] == 0) progress->landed(1);
  };
  parts_.node->cache->fetch(origin_, chunks, done, ahead_ != 0 ? ahead_.load() : kNobodys);
}

std::optional<ContentHash> Reader::known_hash(std::uint64_t object_index, std::uint64_t chunk) const {
  return parts_.hashes->get(parts_.chunking->ordinal(object_index, chunk));
}

std::vector<ContentHash> Reader::known_hashes(std::span<const std::uint64_t> indices) const {
  std::vector<ContentHash> hashes;
  for (const std::uint64_t index : indices) {
    const std::uint64_t chunks = parts_.chunking->chunks_of(parts_.manifest->object_size(index));
    for (std::uint64_t chunk = 0; chunk < chunks; ++chunk)
      if (const auto hash = known_hash(index, chunk)) hashes.push_back(*hash);
  }
  return hashes;
}

void Reader::expect(std::span<const std::uint64_t> order, bool again) const {
  if (parts_.node->uses == nullptr || !parts_.node->uses->policy()->wants_order()) return;
  const std::size_t most = std::min<std::size_t>(order.size(), FlushPolicy::kRemembered);
  parts_.node->uses->expect(known_hashes(order.first(most)), again);
}

void Reader::read_ahead(const Range& range) {
  if (parts_.node->memory == nullptr || range.length == 0) return;
  const std::uint64_t chunk_size = parts_.chunking->chunk_size();
  std::vector<ChunkRead> chunks;
  for (std::uint64_t chunk = range.offset / chunk_size; chunk * chunk_size < range.offset + range.length; ++chunk) {
    const auto hash = parts_.hashes->get(parts_.chunking->ordinal(range.index, chunk));
    if (hash && parts_.node->cache->in_memory(*hash)) continue;
    chunks.push_back(chunk_read(range.index, chunk));
  }
  metrics().add(Counter::kPrefetchedChunks, chunks.size());
  parts_.node->cache->fetch(origin_, chunks, [](std::size_t, const View&, const std::exception_ptr&) {});
}

}  // namespace alnair
