#include "manager/cache/dataset_chunks.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>

#include "dataset/registration.h"

namespace alnair::manager {
namespace {

using Hashes = std::vector<std::optional<ContentHash>>;

// What the index in Redis says.
Hashes told_by(const Node& node, std::span<const ChunkId> ids) {
  if (node.cluster == nullptr || ids.empty()) return Hashes(ids.size());
  const auto told = std::make_shared<std::promise<Hashes>>();
  node.cluster->find_hashes(ids, [told](Hashes hashes) { told->set_value(std::move(hashes)); });
  return told->get_future().get();
}

}  // namespace

DatasetChunks::DatasetChunks(std::shared_ptr<Node> node, std::shared_ptr<ObjectSource> source,
                             std::shared_ptr<const Manifest> manifest, std::uint64_t chunk_size,
                             const std::string& name, std::shared_ptr<SharedHashes> hashes)
    : node_(std::move(node)),
      manifest_(std::move(manifest)),
      chunking_(std::make_shared<Chunking>(*manifest_, chunk_size)),
      namer_(std::make_shared<ChunkNamer>(source->identity(), chunk_size)),
      hashes_(hashes != nullptr ? std::move(hashes)
                                : std::make_shared<SharedHashes>("", source->identity(), manifest_->version(),
                                                                 chunk_size, chunking_->chunks())),
      reader_({node_, source, manifest_, chunking_, namer_, hashes_, dataset_tag(name)}) {}

std::uint64_t DatasetChunks::chunks_of(std::uint64_t object) const {
  const std::uint64_t size = manifest_->object_size(object);
  return size == 0 ? 0 : chunking_->chunks_of(size);
}

std::uint64_t DatasetChunks::bytes_of(const ChunkOf& chunk) const {
  return chunking_->range(manifest_->object_size(chunk.object), chunk.chunk).length;
}

std::vector<ChunkId> DatasetChunks::ids_of(std::span<const ChunkOf> chunks) const {
  std::vector<ChunkId> ids;
  for (const ChunkOf& chunk : chunks) ids.push_back(namer_->name(manifest_->object(chunk.object), chunk.chunk));
  return ids;
}

std::vector<std::optional<ContentHash>> DatasetChunks::hashes_of(std::span<const ChunkOf> chunks) {
  std::vector<std::optional<ContentHash>> found(chunks.size());
  std::vector<ChunkOf> unknown;
  std::vector<std::size_t> asked;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    found[i] = hashes_->get(chunking_->ordinal(chunks[i].object, chunks[i].chunk));
    if (found[i]) continue;
    unknown.push_back(chunks[i]);
    asked.push_back(i);
  }
  if (unknown.empty()) return found;
  const auto ids = ids_of(unknown);
  auto answers = told_by(*node_, ids);
  if (node_->catalog != nullptr) node_->catalog->find_hashes(ids, answers);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (!(found[asked[i]] = answers[i])) continue;
    hashes_->set(chunking_->ordinal(unknown[i].object, unknown[i].chunk), *answers[i]);
  }
  return found;
}

void DatasetChunks::learn_hashes(const Interrupt& interrupt) {
  constexpr std::size_t kAtOnce = 2048;
  std::vector<ChunkOf> window;
  for (std::uint64_t object = 0; object < manifest_->size(); ++object) {
    for (std::uint64_t chunk = 0; chunk < chunks_of(object); ++chunk) {
      window.push_back({object, chunk});
      if (window.size() < kAtOnce) continue;
      interrupt();
      hashes_of(window);
      window.clear();
    }
  }
  hashes_of(window);
}

void DatasetChunks::keep_hashes() {
  if (node_->catalog != nullptr) node_->catalog->flush();
}

std::string DatasetChunks::known_hashes(std::uint64_t first, std::uint64_t most) {
  constexpr std::size_t kSize = sizeof(ContentHash::bytes);
  if (first >= chunking_->chunks()) return "";
  most = std::min(most, chunking_->chunks() - first);
  // The object whose chunks begin last at or before `first`.
  std::uint64_t object = 0, behind = manifest_->size();
  while (behind - object > 1) {
    const std::uint64_t middle = object + (behind - object) / 2;
    (chunking_->ordinal(middle, 0) <= first ? object : behind) = middle;
  }
  std::vector<ChunkOf> window;
  for (std::uint64_t chunk = first - chunking_->ordinal(object, 0); window.size() < most; ++object, chunk = 0)
    for (; chunk < chunking_->chunks_of(manifest_->object_size(object)) && window.size() < most; ++chunk)
      window.push_back({object, chunk});
  const auto hashes = hashes_of(window);
  std::string bytes(kSize * window.size(), '\0');
  for (std::size_t i = 0; i < hashes.size(); ++i)
    if (hashes[i]) std::memcpy(bytes.data() + kSize * i, hashes[i]->bytes.data(), kSize);
  return bytes;
}

std::vector<FoundChunk> DatasetChunks::find(std::span<const ChunkOf> chunks) {
  std::vector<FoundChunk> places(chunks.size());
  const auto hashes = hashes_of(chunks);
  for (std::size_t i = 0; i < chunks.size(); ++i) places[i].hash = hashes[i];
  const auto look = [&](Tier* tier, Place place) {
    if (tier == nullptr) return;
    std::vector<ContentHash> wanted;
    std::vector<std::size_t> asked;
    for (std::size_t i = 0; i < places.size(); ++i) {
      if (places[i].place != Place::kNowhere || !places[i].hash) continue;
      wanted.push_back(*places[i].hash);
      asked.push_back(i);
    }
    const std::unique_ptr<bool[]> present(new bool[wanted.size()]());
    tier->contains(wanted, {present.get(), wanted.size()});
    for (std::size_t i = 0; i < asked.size(); ++i)
      if (present[i]) places[asked[i]].place = place;
  };
  look(node_->redis.get(), Place::kRedis);
  look(node_->spill.get(), Place::kDirectory);
  if (node_->cluster == nullptr) return places;
  std::vector<ChunkOf> in_directory;
  std::vector<std::size_t> asked;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (places[i].place != Place::kDirectory) continue;
    in_directory.push_back(chunks[i]);
    asked.push_back(i);
  }
  const auto told = told_by(*node_, ids_of(in_directory));
  for (std::size_t i = 0; i < asked.size(); ++i) places[asked[i]].told = told[i].has_value();
  return places;
}

std::vector<std::exception_ptr> DatasetChunks::bring(std::span<const ChunkOf> chunks, const Interrupt& interrupt) {
  std::vector<Reader::Range> ranges;
  for (const ChunkOf& chunk : chunks) {
    const ChunkRange range = chunking_->range(manifest_->object_size(chunk.object), chunk.chunk);
    ranges.push_back({chunk.object, range.offset, range.length});
  }
  std::vector<std::exception_ptr> errors;
  for (const Sample& sample : reader_.read(ranges, interrupt)) errors.push_back(sample.error);
  node_->cache->flush();
  return errors;
}

std::uint64_t DatasetChunks::damaged(std::span<const FoundChunk> places) {
  constexpr std::size_t kAtOnce = 32;  // chunks, of up to chunk_size bytes
  std::uint64_t bad = 0;
  for (const Place place : {Place::kRedis, Place::kDirectory}) {
    Tier* const tier = place == Place::kRedis ? node_->redis.get() : node_->spill.get();
    std::vector<ContentHash> hashes;
    for (const FoundChunk& each : places)
      if (each.place == place) hashes.push_back(*each.hash);
    for (std::size_t begin = 0; begin < hashes.size(); begin += kAtOnce) {
      const auto part = std::span(hashes).subspan(begin, std::min(kAtOnce, hashes.size() - begin));
      struct Reading {
        std::atomic<std::size_t> left;
        std::atomic<std::uint64_t> missing{0};
        std::promise<void> done;
      };
      const auto reading = std::make_shared<Reading>();
      reading->left = part.size();
      tier->get(part, [reading](std::size_t, std::optional<View> view) {
        if (!view) ++reading->missing;
        if (--reading->left == 0) reading->done.set_value();
      });
      reading->done.get_future().wait();
      bad += reading->missing;
    }
  }
  return bad;
}

void DatasetChunks::evict(const ContentHash& hash) {
  for (Tier* const tier : std::initializer_list<Tier*>{node_->redis.get(), node_->spill.get()})
    if (tier != nullptr) tier->erase(hash);
}

std::string message_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    return exception.what();
  }
}

}  // namespace alnair::manager
