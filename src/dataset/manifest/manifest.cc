#include "alnair/dataset/manifest.h"

#include <fmt/format.h>
#include <zstd.h>

#include <stdexcept>
#include <variant>

#include "alnair/core/error.h"
#include "core/log.h"
#include "dataset/manifest/reader.h"
#include "dataset/shared_file.h"

namespace alnair {
namespace {

using manifest::Codec;
using manifest::Envelope;
using manifest::kEnvelopeSize;

constexpr char kFilePrefix[] = "manifest-";
constexpr std::size_t kKeptFiles = 16;  // in the share directory

class MappedManifest final : public Manifest {
 public:
  // `mapping` holds an envelope and a raw body, both checked.
  MappedManifest(Mapping mapping, const ContentHash& version)
      : mapping_(std::move(mapping)),
        reader_(std::as_const(mapping_).bytes().subspan(kEnvelopeSize)),
        version_(version.hex()) {}

  const std::string& version() const override { return version_; }
  std::uint64_t size() const override { return reader_.size(); }
  std::uint64_t total_bytes() const override { return reader_.total_bytes(); }
  ObjectInfo object(std::uint64_t index) const override { return reader_.object(checked(index)); }
  std::string key(std::uint64_t index) const override { return reader_.key(checked(index)); }
  std::uint64_t object_size(std::uint64_t index) const override {
    return reader_.object_size(checked(index));
  }
  std::optional<std::uint64_t> find(std::string_view key) const override { return reader_.find(key); }

  std::vector<ObjectInfo> objects(std::uint64_t first, std::uint64_t count) const override {
    if (first > size() || count > size() - first)
      throw std::out_of_range(
          fmt::format("The manifest has no objects {} to {}, only {}.", first, first + count, size()));
    return reader_.objects(first, count);
  }

 private:
  std::uint64_t checked(std::uint64_t index) const {
    if (index >= size())
      throw std::out_of_range(fmt::format("The manifest has no object {}, only {}.", index, size()));
    return index;
  }

  Mapping mapping_;
  manifest::Reader reader_;
  std::string version_;
};

// Expands the blob's payload into `body`, and checks it against the name that the envelope gives it.
void expand(const Envelope& envelope, std::span<const std::byte> payload, std::span<std::byte> body) {
  if (envelope.codec == Codec::kRaw) {
    if (payload.size() != body.size())
      throw CacheError("The manifest is damaged: it is not as long as it says.");
    std::memcpy(body.data(), payload.data(), payload.size());
  } else {
    const std::size_t size = ZSTD_decompress(body.data(), body.size(), payload.data(), payload.size());
    if (ZSTD_isError(size) != 0 || size != body.size())
      throw CacheError(fmt::format("The manifest is damaged: it cannot be decompressed ({}).",
                                   ZSTD_isError(size) != 0 ? ZSTD_getErrorName(size) : "it is too short"));
  }
  if (content_hash(body) != envelope.version)
    throw CacheError("The manifest is damaged: its bytes do not match its version.");
}

// The whole shared file from the blob, in `file`, envelope included.
void write_file(const Envelope& envelope, std::span<const std::byte> payload, std::span<std::byte> file) {
  const auto body = file.subspan(kEnvelopeSize);
  expand(envelope, payload, body);
  manifest::write_envelope(file.data(), {Codec::kRaw, body.size(), envelope.version}, body);
}

// The expanded manifest in private memory.
Mapping expand_privately(const Envelope& envelope, std::span<const std::byte> payload,
                         std::uint64_t file_size) {
  Mapping mapping = map_private_memory(file_size);
  if (!mapping)
    throw CacheError(fmt::format("There is no memory for a manifest of {} bytes.", envelope.body_size));
  write_file(envelope, payload, mapping.bytes());
  return mapping;
}

}  // namespace

std::shared_ptr<const Manifest> Manifest::decode(std::span<const std::byte> blob,
                                                 const std::string& share_directory) {
  const Envelope envelope = manifest::read_envelope(blob);
  const auto payload = blob.subspan(kEnvelopeSize);
  const std::string version = envelope.version.hex();
  if (auto shared = open_shared(version, share_directory)) return shared;

  if (envelope.body_size > std::numeric_limits<std::uint64_t>::max() / 2)
    throw CacheError("The manifest is damaged: its size is impossible.");
  const std::uint64_t file_size = kEnvelopeSize + envelope.body_size;
  Mapping mapping;
  if (auto draft = SharedFileDraft::begin(share_directory, file_size)) {
    write_file(envelope, payload, draft->bytes());
    if (!draft->publish(kFilePrefix + version))
      if (auto shared = open_shared(version, share_directory)) return shared;  // another process was first
    trim_shared_files(share_directory, kFilePrefix, kKeptFiles);
    mapping = std::move(*draft).release();
  } else {
    mapping = expand_privately(envelope, payload, file_size);
  }
  return std::make_shared<MappedManifest>(std::move(mapping), envelope.version);
}

std::shared_ptr<const Manifest> Manifest::open_shared(const std::string& version,
                                                      const std::string& share_directory) {
  Mapping mapping = map_shared_file(share_directory, kFilePrefix + version, Access::kRead);
  if (!mapping) return nullptr;
  try {
    const auto file = std::as_const(mapping).bytes();
    const Envelope envelope = manifest::read_envelope(file);
    if (envelope.codec != Codec::kRaw || envelope.body_size != file.size() - kEnvelopeSize ||
        envelope.version.hex() != version)
      throw CacheError("The manifest is not the one that its file's name says.");
    return std::make_shared<MappedManifest>(std::move(mapping), envelope.version);
  } catch (const CacheError& error) {
    log(LogLevel::kWarning, "{}/{}{} is removed, to be made again: {}", share_directory, kFilePrefix, version,
        error.what());
    remove_shared_file(share_directory, kFilePrefix + version);
    return nullptr;
  }
}

}  // namespace alnair
