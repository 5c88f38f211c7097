#include "cache/directory/segment_format.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

namespace alnair {
namespace {

constexpr std::string_view kMagic = "ALNRSEG1";
constexpr std::string_view kSegmentSuffix = ".segment";
constexpr std::string_view kLeavingSuffix = ".leaving";
constexpr std::string_view kOpenSuffix = ".open";
constexpr std::size_t kNonceAt = 8, kDatasetAt = 24, kRecordsEndAt = 32, kCountAt = 40, kChecksumAt = 56;

template <typename T>
void store(std::byte* to, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<std::byte>(value >> (8 * i));
}

template <typename T>
T load(const std::byte* from) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(from[i]) << (8 * i);
  return value;
}

std::string hex(const SegmentNonce& nonce) { return fmt::format("{:02x}", fmt::join(nonce, "")); }

std::optional<SegmentNonce> parse_nonce(std::string_view text) {
  SegmentNonce nonce;
  if (text.size() != 2 * nonce.size()) return std::nullopt;
  for (std::size_t i = 0; i < nonce.size(); ++i) {
    const char* at = text.data() + 2 * i;
    if (std::from_chars(at, at + 2, nonce[i], 16).ptr != at + 2) return std::nullopt;
  }
  return nonce;
}

std::optional<SegmentNonce> parse_name(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  name.remove_suffix(suffix.size());
  const auto nonce = parse_nonce(name);
  return nonce && hex(*nonce) == name ? nonce : std::nullopt;  // upper case: no name of ours
}

}  // namespace

std::array<std::byte, kSegmentHeadBytes> segment_head() {
  std::array<std::byte, kSegmentHeadBytes> head{};
  std::memcpy(head.data(), kMagic.data(), kMagic.size());
  return head;
}

std::vector<std::byte> encode_footer(const SegmentFooter& footer) {
  std::vector<std::byte> bytes(footer.entries.size() * kSegmentEntryBytes + kSegmentTrailerBytes);
  std::byte* at = bytes.data();
  for (const SegmentEntry& entry : footer.entries) {
    std::memcpy(at, entry.hash.bytes.data(), 32);
    store(at + 32, entry.offset);
    store(at + 36, entry.length);
    at += kSegmentEntryBytes;
  }
  std::memcpy(at, kMagic.data(), kMagic.size());
  std::memcpy(at + kNonceAt, footer.nonce.data(), footer.nonce.size());
  store(at + kDatasetAt, footer.dataset);
  store(at + kRecordsEndAt, footer.records_end);
  store(at + kCountAt, static_cast<std::uint32_t>(footer.entries.size()));
  store(at + kChecksumAt, checksum64(std::span(bytes).first(bytes.size() - 8)));
  return bytes;
}

std::optional<std::uint64_t> footer_bytes(std::span<const std::byte> trailer, std::uint64_t file_bytes) {
  if (trailer.size() != kSegmentTrailerBytes || file_bytes > kMaxSegmentFileBytes) return std::nullopt;
  if (std::memcmp(trailer.data(), kMagic.data(), kMagic.size()) != 0) return std::nullopt;
  const std::uint64_t bytes =
      load<std::uint32_t>(&trailer[kCountAt]) * kSegmentEntryBytes + kSegmentTrailerBytes;
  const std::uint64_t records = load<std::uint64_t>(&trailer[kRecordsEndAt]);
  if (bytes > file_bytes || records != file_bytes - bytes) return std::nullopt;
  return bytes;
}

std::optional<SegmentFooter> decode_footer(std::span<const std::byte> bytes) {
  if (bytes.size() < kSegmentTrailerBytes ||
      (bytes.size() - kSegmentTrailerBytes) % kSegmentEntryBytes != 0) {
    return std::nullopt;
  }
  const std::byte* trailer = &bytes[bytes.size() - kSegmentTrailerBytes];
  if (std::memcmp(trailer, kMagic.data(), kMagic.size()) != 0) return std::nullopt;
  if (load<std::uint64_t>(trailer + kChecksumAt) != checksum64(bytes.first(bytes.size() - 8)))
    return std::nullopt;
  SegmentFooter footer;
  std::memcpy(footer.nonce.data(), trailer + kNonceAt, footer.nonce.size());
  footer.dataset = load<std::uint64_t>(trailer + kDatasetAt);
  footer.records_end = load<std::uint64_t>(trailer + kRecordsEndAt);
  footer.entries.resize((bytes.size() - kSegmentTrailerBytes) / kSegmentEntryBytes);
  if (load<std::uint32_t>(trailer + kCountAt) != footer.entries.size()) return std::nullopt;
  const std::byte* at = bytes.data();
  for (SegmentEntry& entry : footer.entries) {
    std::memcpy(entry.hash.bytes.data(), at, 32);
    entry.offset = load<std::uint32_t>(at + 32);
    entry.length = load<std::uint32_t>(at + 36);
    if (entry.offset < kSegmentHeadBytes || std::uint64_t{entry.offset} + entry.length > footer.records_end)
      return std::nullopt;
    at += kSegmentEntryBytes;
  }
  return footer;
}

std::string segment_name(const SegmentNonce& nonce) { return hex(nonce) + std::string(kSegmentSuffix); }

std::optional<SegmentNonce> parse_segment_name(std::string_view name) { return parse_name(name, kSegmentSuffix); }

std::string leaving_segment_name(const SegmentNonce& nonce) { return hex(nonce) + std::string(kLeavingSuffix); }

std::optional<SegmentNonce> parse_leaving_segment_name(std::string_view name) { return parse_name(name, kLeavingSuffix); }

std::string open_segment_name(const SegmentNonce& nonce, std::uint64_t node) {
  return fmt::format("{}.{:016x}{}", hex(nonce), node, kOpenSuffix);
}

std::optional<OpenSegmentName> parse_open_segment_name(std::string_view name) {
  const std::string_view whole = name;
  if (!name.ends_with(kOpenSuffix)) return std::nullopt;
  name.remove_suffix(kOpenSuffix.size());
  if (name.size() != 32 + 1 + 16 || name[32] != '.') return std::nullopt;
  const std::optional<SegmentNonce> nonce = parse_nonce(name.substr(0, 32));
  OpenSegmentName parsed{};
  if (!nonce || std::from_chars(&name[33], name.data() + name.size(), parsed.node, 16).ptr !=
                    name.data() + name.size()) {
    return std::nullopt;
  }
  parsed.nonce = *nonce;
  if (open_segment_name(parsed.nonce, parsed.node) != whole) return std::nullopt;  // upper case: no name of ours
  return parsed;
}

}  // namespace alnair
