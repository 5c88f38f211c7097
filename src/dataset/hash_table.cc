#include "dataset/hash_table.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <cstring>

namespace alnair {
namespace {

constexpr char kFilePrefix[] = "hashes-";
constexpr std::size_t kKeptFiles = 16;                // in the share directory
constexpr std::uint64_t kMagic = 0x3148534148524e41;  // "ANRHASH1"
constexpr std::size_t kHeaderWords = 8;
constexpr std::size_t kHashWords = sizeof(ContentHash) / 8;
constexpr std::size_t kEntryWords = kHashWords + 1;  // the hash, its checksum

constexpr std::uint64_t kMaxChunks = std::uint64_t{1} << 40;  // more fit into no machine's memory

// The file is this machine's own, so its words are in the machine's byte order (the magic tells).
using Header = std::array<std::uint64_t, kHeaderWords>;

// What the file must begin with: to whom it belongs, under a checksum.
Header make_header(const ContentHash& owner, std::uint64_t chunk_size, std::uint64_t chunks) {
  Header header{kMagic, chunk_size, chunks, first64(owner)};
  header.back() = checksum64(std::as_bytes(std::span(header).first(kHeaderWords - 1)));
  return header;
}

ContentHash owner_of(const std::string& source_identity, const std::string& manifest_version) {
  Hasher hasher;
  hasher.update_field(source_identity);
  hasher.update_field(manifest_version);
  return hasher.finish();
}

// Never 0, which is the word of an entry that was never written.
std::uint64_t entry_checksum(const ContentHash& hash, std::uint64_t ordinal) {
  return checksum64(std::as_bytes(std::span(hash.bytes)), ordinal) | 1;
}

Mapping open_file(const std::string& directory, const std::string& name, std::uint64_t size,
                  const Header& header) {
  Mapping mapping = map_shared_file(directory, name, Access::kReadWrite);
  if (!mapping) return mapping;
  if (mapping.bytes().size() == size &&
      std::memcmp(mapping.bytes().data(), header.data(), sizeof header) == 0)
    return mapping;
  remove_shared_file(directory, name);
  return {};
}

}  // namespace

SharedHashes::SharedHashes(const std::string& share_directory, const std::string& source_identity,
                           const std::string& manifest_version, std::uint64_t chunk_size, std::uint64_t chunks)
    : chunks_(chunks) {
  if (chunks > kMaxChunks) {
    chunks_ = 0;
    return;
  }
  const ContentHash owner = owner_of(source_identity, manifest_version);
  const std::string name = fmt::format("{}{}-{}", kFilePrefix, owner.hex(), chunk_size);
  const Header header = make_header(owner, chunk_size, chunks);
  const std::uint64_t size = (kHeaderWords + chunks * kEntryWords) * 8;
  mapping_ = open_file(share_directory, name, size, header);
  if (!mapping_) {
    if (auto draft = SharedFileDraft::begin(share_directory, size)) {
      std::memcpy(draft->bytes().data(), header.data(), sizeof header);
      // Else another process was first, and its table is the one to share.
      mapping_ =
          draft->publish(name) ? std::move(*draft).release() : open_file(share_directory, name, size, header);
      trim_shared_files(share_directory, kFilePrefix, kKeptFiles);
    }
  }
  shared_ = static_cast<bool>(mapping_);
  if (!shared_) mapping_ = map_private_memory(size);
  if (!mapping_) chunks_ = 0;
}

std::uint64_t* SharedHashes::entry(std::uint64_t ordinal) const {
  auto* words = reinterpret_cast<std::uint64_t*>(const_cast<std::byte*>(mapping_.bytes().data()));
  return words + kHeaderWords + ordinal * kEntryWords;
}

std::optional<ContentHash> SharedHashes::get(std::uint64_t ordinal) const {
  if (ordinal >= chunks_) return std::nullopt;
  std::uint64_t* words = entry(ordinal);
  const std::uint64_t checksum = std::atomic_ref(words[kHashWords]).load(std::memory_order_acquire);
  if (checksum == 0) return std::nullopt;
  std::array<std::uint64_t, kHashWords> copy;
  for (std::size_t i = 0; i < kHashWords; ++i)
    copy[i] = std::atomic_ref(words[i]).load(std::memory_order_relaxed);
  ContentHash hash;
  std::memcpy(hash.bytes.data(), copy.data(), sizeof copy);
  if (entry_checksum(hash, ordinal) != checksum) return std::nullopt;
  return hash;
}

void SharedHashes::set(std::uint64_t ordinal, const ContentHash& hash) {
  if (ordinal >= chunks_) return;
  std::uint64_t* words = entry(ordinal);
  std::array<std::uint64_t, kHashWords> copy;
  std::memcpy(copy.data(), hash.bytes.data(), sizeof copy);
  for (std::size_t i = 0; i < kHashWords; ++i)
    std::atomic_ref(words[i]).store(copy[i], std::memory_order_relaxed);
  // Last, so that a reader that sees it sees the hash too. Two writers at once may mix their words; then the
  // checksum is that of neither mixture.
  std::atomic_ref(words[kHashWords]).store(entry_checksum(hash, ordinal), std::memory_order_release);
}

}  // namespace alnair
