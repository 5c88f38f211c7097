#include "dataset/manifest/format.h"

#include <fmt/format.h>

#include <charconv>
#include <initializer_list>
#include <limits>

#include "alnair/core/error.h"

namespace alnair::manifest {
namespace {

constexpr std::size_t kChecksumOffset = kEnvelopeSize - 8;

std::uint64_t payload_checksum(const std::byte* envelope, std::span<const std::byte> payload) {
  return checksum64(payload, checksum64({envelope, kChecksumOffset}));
}

bool is_width(unsigned width) { return width <= 2 || width == 4 || width == 8; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

void write_envelope(std::byte* to, const Envelope& envelope, std::span<const std::byte> payload) {
  store_number(to, kMagic, 8);
  store_number(to + 8, kFormat, 4);
  store_number(to + 12, static_cast<std::uint32_t>(envelope.codec), 4);
  store_number(to + 16, envelope.body_size, 8);
  std::memcpy(to + 24, envelope.version.bytes.data(), envelope.version.bytes.size());
  store_number(to + kChecksumOffset, payload_checksum(to, payload), 8);
}

Envelope read_envelope(std::span<const std::byte> bytes) {
  if (bytes.size() < kEnvelopeSize || load<std::uint64_t>(bytes.data()) != kMagic)
    throw CacheError("The manifest is damaged: it does not begin as one.");
  const auto format = load<std::uint32_t>(bytes.data() + 8);
  if (format != kFormat)
    throw CacheError(fmt::format("The manifest is of format {}; this version of Alnair reads format {}.",
                                 format, kFormat));
  if (load<std::uint64_t>(bytes.data() + kChecksumOffset) !=
      payload_checksum(bytes.data(), bytes.subspan(kEnvelopeSize)))
    throw CacheError("The manifest is damaged: its checksum does not match.");
  const auto codec = load<std::uint32_t>(bytes.data() + 12);
  if (codec > static_cast<std::uint32_t>(Codec::kZstd))
    throw CacheError(fmt::format("The manifest is compressed in an unknown way ({}).", codec));
  Envelope envelope{static_cast<Codec>(codec), load<std::uint64_t>(bytes.data() + 16), {}};
  std::memcpy(envelope.version.bytes.data(), bytes.data() + 24, envelope.version.bytes.size());
  return envelope;
}

void write_layout(std::byte* to, const Layout& layout) {
  std::memset(to, 0, kLayoutSize);
  store_number(to, layout.objects, 8);
  store_number(to + 8, layout.total_bytes, 8);
  store_number(to + 16, layout.time_base, 8);
  store_number(to + 24, layout.time_unit, 8);
  to[32] = std::byte{layout.size_width};
  to[33] = std::byte{layout.time_width};
  to[34] = std::byte{layout.parts_width};
  to[35] = std::byte{layout.etag_width};
  to[36] = std::byte{layout.restart_width};
  store_number(to + 40, layout.restart_interval, 4);
  store_number(to + 48, layout.keys_size, 8);
  store_number(to + 56, layout.heap_size, 8);
}

Layout read_layout(std::span<const std::byte> body) {
  const auto damaged = [] { return CacheError("The manifest is damaged: its columns do not fit its size."); };
  if (body.size() < kLayoutSize) throw damaged();
  const std::byte* from = body.data();
  Layout layout;
  layout.objects = load<std::uint64_t>(from);
  layout.total_bytes = load<std::uint64_t>(from + 8);
  layout.time_base = load<std::uint64_t>(from + 16);
  layout.time_unit = load<std::uint64_t>(from + 24);
  layout.size_width = load<std::uint8_t>(from + 32);
  layout.time_width = load<std::uint8_t>(from + 33);
  layout.parts_width = load<std::uint8_t>(from + 34);
  layout.etag_width = load<std::uint8_t>(from + 35);
  layout.restart_width = load<std::uint8_t>(from + 36);
  layout.restart_interval = load<std::uint32_t>(from + 40);
  layout.keys_size = load<std::uint64_t>(from + 48);
  layout.heap_size = load<std::uint64_t>(from + 56);
  if (!is_width(layout.size_width) || !is_width(layout.time_width) || !is_width(layout.parts_width) ||
      (layout.etag_width != 0 && layout.etag_width != 16) ||
      (layout.restart_width != 4 && layout.restart_width != 8) || layout.restart_interval == 0)
    throw damaged();
  // Every object takes a byte of flags, which bounds all products below.
  std::uint64_t left = body.size() - kLayoutSize;
  if (layout.objects > left || layout.keys_size > left || layout.heap_size > left ||
      left > std::numeric_limits<std::uint64_t>::max() / 64)
    throw damaged();
  const std::uint64_t an_object =
      1u + layout.size_width + layout.time_width + layout.parts_width + layout.etag_width;
  if (layout.objects * an_object + layout.restarts() * layout.restart_width + layout.keys_size +
          layout.heap_size !=
      left)
    throw damaged();
  return layout;
}

ParsedEtag parse_etag(std::string_view etag) {
  if (etag.empty()) return {};
  ParsedEtag parsed{EtagKind::kText, {}, 0};
  if (etag.size() < 32) return parsed;
  for (std::size_t i = 0; i < 16; ++i) {
    const int high = hex_digit(etag[2 * i]), low = hex_digit(etag[2 * i + 1]);
    if (high < 0 || low < 0) return parsed;
    parsed.digest[i] = static_cast<std::byte>(high << 4 | low);
  }
  const std::string_view rest = etag.substr(32);
  if (rest.empty()) {
    parsed.kind = EtagKind::kMd5;
  } else if (rest.size() > 1 && rest[0] == '-' && rest[1] != '0') {
    const auto [end, error] = std::from_chars(rest.data() + 1, rest.data() + rest.size(), parsed.parts);
    if (error == std::errc() && end == rest.data() + rest.size()) parsed.kind = EtagKind::kMultipart;
  }
  return parsed;
}

void append_hex(std::string& text, const std::byte* digest) {
  constexpr char kHex[] = "0123456789abcdef";
  for (std::size_t i = 0; i < 16; ++i) {
    text.push_back(kHex[static_cast<unsigned>(digest[i]) >> 4]);
    text.push_back(kHex[static_cast<unsigned>(digest[i]) & 15]);
  }
}

}  // namespace alnair::manifest
