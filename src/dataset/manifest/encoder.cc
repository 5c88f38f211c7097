#include "dataset/manifest/encoder.h"

#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <limits>

#include "alnair/core/error.h"
#include "alnair/dataset/manifest.h"

namespace alnair {
namespace manifest {
namespace {

constexpr int kZstdLevel = 3;

std::uint8_t width_of(std::uint64_t largest) {
  if (largest == 0) return 0;
  if (largest <= 0xff) return 1;
  if (largest <= 0xffff) return 2;
  return largest <= 0xffffffff ? 4 : 8;
}

void append_varint(std::vector<std::byte>& bytes, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<std::byte>(value | 0x80));
  bytes.push_back(static_cast<std::byte>(value));
}

struct Keys {
  std::vector<std::byte> bytes;
  std::vector<std::uint64_t> restarts;
};

Keys encode_keys(std::span<const ObjectInfo> objects) {
  Keys keys;
  keys.bytes.reserve(objects.size() * 16);
  keys.restarts.reserve(objects.size() / kRestartInterval + 1);
  for (std::size_t i = 0; i < objects.size(); ++i) {
    std::string_view rest = objects[i].key;
    if (i % kRestartInterval == 0) {
      keys.restarts.push_back(keys.bytes.size());
    } else {
      const std::string& before = objects[i - 1].key;
      const auto shared =
          std::mismatch(rest.begin(), rest.end(), before.begin(), before.end()).first - rest.begin();
      append_varint(keys.bytes, static_cast<std::uint64_t>(shared));
      rest.remove_prefix(static_cast<std::size_t>(shared));
    }
    append_varint(keys.bytes, rest.size());
    const auto bytes = std::as_bytes(std::span(rest.data(), rest.size()));
    keys.bytes.insert(keys.bytes.end(), bytes.begin(), bytes.end());
  }
  return keys;
}

std::uint64_t time_of(const ObjectInfo& object) {
  return static_cast<std::uint64_t>(object.last_modified_ms);
}

// What the columns need, from one pass over the objects.
Layout plan(std::span<const ObjectInfo> objects) {
  Layout layout;
  layout.restart_interval = kRestartInterval;
  if (objects.empty()) return layout;
  const auto [first, last] = std::ranges::minmax_element(objects, {}, &ObjectInfo::last_modified_ms);
  layout.time_base = time_of(*first);
  layout.time_unit = 1000;
  std::uint64_t largest = 0;
  std::uint32_t parts = 0;
  for (const ObjectInfo& object : objects) {
    layout.total_bytes += object.size;
    largest = std::max(largest, object.size);
    if ((time_of(object) - layout.time_base) % 1000 != 0) layout.time_unit = 1;
    const ParsedEtag etag = parse_etag(object.etag);
    if (etag.kind != EtagKind::kNone) layout.etag_width = 16;
    if (etag.kind == EtagKind::kMultipart) parts = std::max(parts, etag.parts);
    if (etag.kind == EtagKind::kText) layout.heap_size += object.etag.size();
  }
  layout.size_width = width_of(largest);
  layout.time_width = width_of((time_of(*last) - layout.time_base) / layout.time_unit);
  layout.parts_width = width_of(parts);
  return layout;
}

}  // namespace

void sort_objects(std::vector<ObjectInfo>& objects) {
  const auto before = [](const ObjectInfo& a, const ObjectInfo& b) {
    const int order = a.key.compare(b.key);  // char_traits<char> compares as unsigned bytes
    return order != 0 ? order < 0 : a.last_modified_ms > b.last_modified_ms;
  };
  if (!std::ranges::is_sorted(objects, before)) std::ranges::sort(objects, before);
  const auto same = [](const ObjectInfo& a, const ObjectInfo& b) { return a.key == b.key; };
  objects.erase(std::unique(objects.begin(), objects.end(), same), objects.end());
}

std::vector<std::byte> encode_body(std::span<const ObjectInfo> objects) {
  Layout layout = plan(objects);
  Keys keys = encode_keys(objects);
  layout.objects = objects.size();
  layout.keys_size = keys.bytes.size();
  layout.restart_width = layout.keys_size > std::numeric_limits<std::uint32_t>::max() ? 8 : 4;

  const std::size_t n = objects.size();
  const std::size_t an_object =
      1u + layout.size_width + layout.time_width + layout.parts_width + layout.etag_width;
  std::vector<std::byte> body(kLayoutSize + n * an_object + layout.restarts() * layout.restart_width +
                              layout.keys_size + layout.heap_size);
  write_layout(body.data(), layout);
  std::byte* flags = body.data() + kLayoutSize;
  std::byte* size = flags + n;
  std::byte* time = size + n * layout.size_width;
  std::byte* parts = time + n * layout.time_width;
  std::byte* etag = parts + n * layout.parts_width;
  std::byte* restart = etag + n * layout.etag_width;
  std::byte* const keys_begin = restart + layout.restarts() * layout.restart_width;
  std::byte* const heap_begin = keys_begin + layout.keys_size;
  std::byte* heap = heap_begin;

  for (const ObjectInfo& object : objects) {
    const ParsedEtag parsed = parse_etag(object.etag);
    *flags++ =
        static_cast<std::byte>(static_cast<unsigned>(parsed.kind) | (object.archived ? kArchivedFlag : 0u));
    store_number(size, object.size, layout.size_width);
    store_number(time, (time_of(object) - layout.time_base) / layout.time_unit, layout.time_width);
    if (parsed.kind == EtagKind::kMultipart) store_number(parts, parsed.parts, layout.parts_width);
    if (parsed.kind == EtagKind::kText) {
      store_number(etag, static_cast<std::uint64_t>(heap - heap_begin), 8);
      store_number(etag + 8, object.etag.size(), 8);
      std::memcpy(heap, object.etag.data(), object.etag.size());
      heap += object.etag.size();
    } else if (parsed.kind != EtagKind::kNone) {
      std::memcpy(etag, parsed.digest.data(), parsed.digest.size());
    }
    size += layout.size_width;
    time += layout.time_width;
    parts += layout.parts_width;
    etag += layout.etag_width;
  }
  for (const std::uint64_t offset : keys.restarts) {
    store_number(restart, offset, layout.restart_width);
    restart += layout.restart_width;
  }
  std::ranges::copy(keys.bytes, keys_begin);
  return body;
}

std::vector<std::byte> compress_body(std::span<const std::byte> body) {
  std::vector<std::byte> blob(kEnvelopeSize + ZSTD_compressBound(body.size()));
  const std::size_t size = ZSTD_compress(blob.data() + kEnvelopeSize, blob.size() - kEnvelopeSize,
                                         body.data(), body.size(), kZstdLevel);
  if (ZSTD_isError(size) != 0)
    throw CacheError(fmt::format("The manifest cannot be compressed: {}.", ZSTD_getErrorName(size)));
  blob.resize(kEnvelopeSize + size);
  blob.shrink_to_fit();
  write_envelope(blob.data(), {Codec::kZstd, body.size(), content_hash(body)},
                 std::span<const std::byte>(blob).subspan(kEnvelopeSize));
  return blob;
}

}  // namespace manifest

std::vector<std::byte> Manifest::encode(std::vector<ObjectInfo> objects) {
  manifest::sort_objects(objects);
  const std::vector<std::byte> body = manifest::encode_body(objects);
  objects = {};
  return manifest::compress_body(body);
}

}  // namespace alnair
