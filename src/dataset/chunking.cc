#include "dataset/chunking.h"

#include <algorithm>

namespace alnair {
namespace {

constexpr std::uint64_t kNamingFormat = 1;  // change it with anything that goes into a name

}  // namespace

Chunking::Chunking(const Manifest& manifest, std::uint64_t chunk_size) : chunk_size_(chunk_size) {
  std::uint64_t surplus = 0;
  for (std::uint64_t object = 0; object < manifest.size(); ++object) {
    const std::uint64_t chunks = chunks_of(manifest.object_size(object));
    if (chunks == 1) continue;
    surplus += chunks - 1;
    large_.push_back({object, surplus});
  }
  chunks_ = manifest.size() + surplus;
}

ChunkRange Chunking::range(std::uint64_t object_size, std::uint64_t chunk) const {
  const std::uint64_t offset = chunk * chunk_size_;
  return {offset, std::min(chunk_size_, object_size - offset)};
}

std::uint64_t Chunking::ordinal(std::uint64_t object, std::uint64_t chunk) const {
  const auto after = std::ranges::lower_bound(large_, object, {}, &Large::object);
  return object + chunk + (after == large_.begin() ? 0 : std::prev(after)->surplus);
}

ChunkNamer::ChunkNamer(std::string_view source_identity, std::uint64_t chunk_size) {
  prefix_.update_field(kNamingFormat);
  prefix_.update_field(source_identity);
  prefix_.update_field(chunk_size);
}

ChunkId ChunkNamer::name(const ObjectInfo& object, std::uint64_t chunk) const {
  Hasher hasher = prefix_;
  hasher.update_field(object.key);
  hasher.update_field(object.size);
  hasher.update_field(object.etag);
  if (object.etag.empty()) hasher.update_field(static_cast<std::uint64_t>(object.last_modified_ms));
  hasher.update_field(chunk);
  const ContentHash hash = hasher.finish();
  ChunkId id;
  std::copy_n(hash.bytes.begin(), id.bytes.size(), id.bytes.begin());
  return id;
}

}  // namespace alnair
