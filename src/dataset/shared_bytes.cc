#include "dataset/shared_bytes.h"

#include <cstring>
#include <memory>

#include "alnair/core/hash.h"
#include "dataset/shared_file.h"

namespace alnair {
namespace {

constexpr char kFilePrefix[] = "list-";
constexpr std::size_t kKeptFiles = 32;  // in the share directory

}  // namespace

std::string lend_bytes(const std::string& share_directory, std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  const std::string name = kFilePrefix + content_hash(bytes).hex();
  if (!lent_bytes(share_directory, name).empty()) return name;
  auto draft = SharedFileDraft::begin(share_directory, bytes.size());
  if (!draft) return {};
  std::memcpy(draft->bytes().data(), bytes.data(), bytes.size());
  // Where another process was first, its file holds the same.
  if (!draft->publish(name) && lent_bytes(share_directory, name).empty()) return {};
  trim_shared_files(share_directory, kFilePrefix, kKeptFiles);
  return name;
}

View lent_bytes(const std::string& share_directory, const std::string& name) {
  const auto hash = name.starts_with(kFilePrefix) ? ContentHash::from_hex(name.substr(sizeof kFilePrefix - 1)) : std::nullopt;
  if (!hash) return {};
  auto mapping = std::make_shared<Mapping>(map_shared_file(share_directory, name, Access::kRead));
  if (!*mapping) return {};
  const std::span<const std::byte> bytes = std::as_const(*mapping).bytes();
  if (content_hash(bytes) != *hash) {
    remove_shared_file(share_directory, name);
    return {};
  }
  return {mapping, bytes};
}

}  // namespace alnair
