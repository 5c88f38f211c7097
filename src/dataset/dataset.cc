#include "alnair/dataset/dataset.h"

#include <fmt/format.h>

#include <cstring>
#include <stdexcept>

#include "alnair/core/error.h"
#include "cache/node_slots.h"
#include "core/fork.h"
#include "core/log.h"
#include "core/metrics.h"
#include "dataset/reader.h"
#include "dataset/registration.h"
#include "dataset/source_of.h"

namespace alnair {
namespace {

class CachedDataset : public Dataset {
 public:
  CachedDataset(DatasetOptions options, std::shared_ptr<ObjectSource> source, const std::shared_ptr<Node>& node,
                Registration registration, const std::shared_ptr<const std::vector<std::byte>>& hashes)
      : options_(std::move(options)),
        manifest_(std::move(registration.manifest)),
        warnings_(std::move(registration.warnings)),
        chunking_(std::make_shared<Chunking>(*manifest_, options_.cache.chunk_size)),
        namer_(std::make_shared<ChunkNamer>(source->identity(), options_.cache.chunk_size)),
        hashes_(std::make_shared<SharedHashes>(node->share_directory, source->identity(), manifest_->version(),
                                               options_.cache.chunk_size, chunking_->chunks())),
        tag_(dataset_tag(registration.dataset)),
        reader_([this, source = std::move(source)] {
          return std::make_shared<Reader>(
              Reader::Parts{open_node(options_.cache), source, manifest_, chunking_, namer_, hashes_, tag_});
        }) {
    metrics().add(Counter::kOpenedDatasets);
    if (hashes != nullptr) take_hashes(*hashes);
    start_flusher(reader_.get()->node());  // and the reader holds the dataset from now on
  }

  const Manifest& manifest() const override { return *manifest_; }
  const std::string& version() const override { return manifest_->version(); }
  const std::vector<std::string>& warnings() const override { return warnings_; }

  std::vector<std::byte> manifest_blob() const override {
    const auto& catalog = reader_.get()->node().catalog;
    if (catalog == nullptr) return {};
    try {
      return catalog->manifest_blob(version()).value_or(std::vector<std::byte>());
    } catch (const CacheError& error) {
      log(LogLevel::kWarning, "the manifest {} cannot be handed on: {}", version(), error.what());
      return {};
    }
  }

  View read(std::uint64_t index, std::uint64_t offset, std::uint64_t length, const Interrupt& interrupt) override {
    const Reader::Range range = part(index, offset, length);
    Sample sample = std::move(reader_.get()->read({&range, 1}, interrupt).front());
    if (sample.error) std::rethrow_exception(sample.error);
    return std::move(sample.bytes);
  }

  std::vector<Sample> read_batch(std::span<const std::uint64_t> indices, const Interrupt& interrupt) override {
    std::vector<Reader::Range> ranges;
    ranges.reserve(indices.size());
    for (const std::uint64_t index : indices) ranges.push_back(whole(index));
    return reader_.get()->read(ranges, interrupt);
  }

  void read_ahead(std::uint64_t index, std::uint64_t offset, std::uint64_t length) override {
    reader_.get()->read_ahead(part(index, offset, length));
  }

  void prefetch(std::vector<std::uint64_t> order, std::uint64_t budget_bytes, bool for_this_process) override {
    for (const std::uint64_t index : order) check(index);
    const auto reader = reader_.get();
    reader->expect(order, true);
    reader->prefetch(std::move(order), budget_bytes, for_this_process);
    start_flusher(reader->node());
  }
  void prefetch_extend(std::span<const std::uint64_t> more) override {
    for (const std::uint64_t index : more) check(index);
    const auto reader = reader_.get();
    reader->expect(more, false);
    reader->prefetcher().extend(more);
  }
  void prefetch_advance(std::uint64_t consumed, std::uint64_t drawn) override {
    reader_.get()->prefetcher().advance(consumed, drawn);
  }
  void prefetch_cancel() override {
    if (const auto reader = reader_.peek()) reader->cancel_prefetch();
  }

  void flush() override {
    const auto reader = reader_.peek();
    if (reader == nullptr) return;
    reader->node().cache->flush();
    if (reader->node().catalog != nullptr) reader->node().catalog->flush();
  }

  TierUsage memory_usage() const override { return usage(reader_.get()->node().memory); }
  TierUsage disk_usage() const override { return usage(reader_.get()->node().disk); }
  TierUsage spill_usage() const override { return usage(reader_.get()->node().spill); }

 private:
  // What the node has learned itself counts.
  void take_hashes(const std::vector<std::byte>& known) {
    constexpr std::size_t kSize = sizeof(ContentHash::bytes);
    if (known.size() != kSize * chunking_->chunks()) return;
    for (std::uint64_t ordinal = 0; ordinal < chunking_->chunks(); ++ordinal) {
      ContentHash hash;
      std::memcpy(hash.bytes.data(), known.data() + kSize * ordinal, kSize);
      if (hash != ContentHash() && !hashes_->get(ordinal)) hashes_->set(ordinal, hash);
    }
  }

  // Not in the children of this process: a loader's workers come and go. Called again with each epoch, as the node's flusher may have
  // been in a process that has ended.
  void start_flusher(const Node& node) {
    if (options_.cache.flush && generation_ == fork_generation() && node.flusher != nullptr)
      node.flusher->start(node.locks, options_.cache.redis);
  }
  static TierUsage usage(const std::shared_ptr<Tier>& tier) { return tier == nullptr ? TierUsage() : tier->usage(); }

  void check(std::uint64_t index) const {
    if (index >= manifest_->size())
      throw std::out_of_range(
          fmt::format("object {} of a dataset that has {} (indices start at 0)", index, manifest_->size()));
  }
  Reader::Range whole(std::uint64_t index) const {
    check(index);
    return {index, 0, manifest_->object_size(index)};
  }
  Reader::Range part(std::uint64_t index, std::uint64_t offset, std::uint64_t length) const {
    Reader::Range range = whole(index);
    range.offset = std::min(offset, range.length);
    range.length = std::min(length, range.length - range.offset);
    return range;
  }

  const DatasetOptions options_;
  const std::shared_ptr<const Manifest> manifest_;
  const std::vector<std::string> warnings_;
  const std::shared_ptr<const Chunking> chunking_;
  const std::shared_ptr<const ChunkNamer> namer_;
  const std::shared_ptr<SharedHashes> hashes_;
  const DatasetTag tag_;
  const std::uint64_t generation_ = fork_generation();
  mutable ForkLocal<Reader> reader_;
};

}  // namespace

std::shared_ptr<Dataset> Dataset::open(const DatasetOptions& options, const ListProgress& progress,
                                       const Interrupt& interrupt) {
  if (options.cache.chunk_size < 4096 || options.cache.chunk_size > (32u << 20))
    throw ConfigError(fmt::format("chunk_size is {} bytes; expected 4096 (4 KiB) to {} (32 MiB)",
                                  options.cache.chunk_size, 32u << 20));
  DatasetOptions resolved = options;
  resolved.cache = with_default_directories(options.cache);
  auto [source, scope] = source_of(options, node_request_slots(resolved.cache.memory_dir));
  const auto node = open_node(resolved.cache);
  if (node->catalog != nullptr) node->catalog->flush();  // what other datasets of this process have just learned
  Registration registration = register_dataset(*node, *source, options, scope, progress, interrupt);
  for (const auto& warning : registration.warnings) log(LogLevel::kWarning, "{}", warning);
  resolved.hashes = nullptr;  // used once, and large
  return std::make_shared<CachedDataset>(std::move(resolved), std::move(source), node, std::move(registration), options.hashes);
}

}  // namespace alnair
