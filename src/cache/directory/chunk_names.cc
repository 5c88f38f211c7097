#include "cache/directory/chunk_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "alnair/core/hash.h"

namespace alnair {
namespace {

constexpr std::string_view kMagic = "ALNRNAM1", kSuffix = ".names";
constexpr std::size_t kHeadWords = 4, kDigits = 16;

}  // namespace

bool ChunkNames::has(std::uint64_t chunk) const { return std::binary_search(chunks.begin(), chunks.end(), chunk); }

std::vector<std::byte> encode_names(const ChunkNames& names) {
  std::vector<std::uint64_t> words(kHeadWords + names.chunks.size() + 1);
  std::memcpy(words.data(), kMagic.data(), kMagic.size());
  words[1] = names.dataset;
  words[2] = static_cast<std::uint64_t>(names.keep.count());
  words[3] = names.chunks.size();
  std::copy(names.chunks.begin(), names.chunks.end(), words.begin() + kHeadWords);
  const auto all = std::as_bytes(std::span(words));
  words.back() = checksum64(all.first(all.size() - sizeof words[0]));
  return {all.begin(), all.end()};
}

std::optional<ChunkNames> decode_names(std::span<const std::byte> bytes) {
  if (bytes.size() % sizeof(std::uint64_t) != 0 || bytes.size() < (kHeadWords + 1) * sizeof(std::uint64_t)) return std::nullopt;
  std::vector<std::uint64_t> words(bytes.size() / sizeof(std::uint64_t));
  std::memcpy(words.data(), bytes.data(), bytes.size());
  if (std::memcmp(words.data(), kMagic.data(), kMagic.size()) != 0 || words[3] != words.size() - kHeadWords - 1 ||
      words.back() != checksum64(bytes.first(bytes.size() - sizeof words[0])))
    return std::nullopt;
  constexpr std::uint64_t kLongest = 1ull << 40;  // seconds
  ChunkNames names{.dataset = words[1], .keep = std::chrono::seconds(std::min(words[2], kLongest))};
  names.chunks.assign(words.begin() + kHeadWords, words.end() - 1);
  return names;
}

std::string names_file(const NamesFile& file) {
  return fmt::format("{:016x}-{:016x}{}{}", file.dataset, file.version, file.node ? fmt::format("-{:016x}", *file.node) : "",
                     kSuffix);
}

std::optional<NamesFile> parse_names_file(std::string_view name) {
  const std::string_view whole = name;
  if (!name.ends_with(kSuffix)) return std::nullopt;
  name.remove_suffix(kSuffix.size());
  std::array<std::uint64_t, 3> numbers{};
  const std::size_t count = (name.size() + 1) / (kDigits + 1);
  if (count < 2 || count > numbers.size()) return std::nullopt;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view digits = name.substr(std::min(name.size(), i * (kDigits + 1)), kDigits);
    std::from_chars(digits.data(), digits.data() + digits.size(), numbers[i], 16);
  }
  const NamesFile file{numbers[0], numbers[1], count == 3 ? std::optional(numbers[2]) : std::nullopt};
  return names_file(file) == whole ? std::optional(file) : std::nullopt;
}

}  // namespace alnair
