#include "dataset/manifest/reader.h"

#include <fmt/format.h>

#include "alnair/core/error.h"

namespace alnair::manifest {
namespace {

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

CacheError damaged_keys() { return CacheError("The manifest is damaged: its keys cannot be decoded."); }

std::uint64_t take_varint(std::span<const std::byte>& from) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (from.empty()) throw damaged_keys();
    const auto byte = static_cast<std::uint64_t>(from[0]);
    from = from.subspan(1);
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  throw damaged_keys();
}

std::string_view take_text(std::span<const std::byte>& from) {
  const std::uint64_t length = take_varint(from);
  if (length > from.size()) throw damaged_keys();
  const auto text = as_text(from.first(length));
  from = from.subspan(length);
  return text;
}

}  // namespace

// Walks the keys of the body from the beginning of a run.
class Reader::KeyCursor {
 public:
  KeyCursor(const Reader& reader, std::uint64_t run_index)
      : interval_(reader.layout_.restart_interval), left_(reader.run(run_index)) {}

  void next() {
    const std::uint64_t shared = position_++ % interval_ == 0 ? 0 : take_varint(left_);
    if (shared > key_.size()) throw damaged_keys();
    key_.resize(shared);
    key_.append(take_text(left_));
  }

  const std::string& key() const { return key_; }

 private:
  std::uint64_t interval_;
  std::uint64_t position_ = 0;
  std::span<const std::byte> left_;
  std::string key_;
};

Reader::Reader(std::span<const std::byte> body) : layout_(read_layout(body)) {
  flags_ = body.data() + kLayoutSize;
  sizes_ = flags_ + layout_.objects;
  times_ = sizes_ + layout_.objects * layout_.size_width;
  parts_ = times_ + layout_.objects * layout_.time_width;
  etags_ = parts_ + layout_.objects * layout_.parts_width;
  restarts_ = etags_ + layout_.objects * layout_.etag_width;
  heap_ = body.last(layout_.heap_size);
  keys_ = body.first(body.size() - layout_.heap_size).last(layout_.keys_size);
}

std::span<const std::byte> Reader::run(std::uint64_t run_index) const {
  const std::uint64_t offset =
      load_number(restarts_ + run_index * layout_.restart_width, layout_.restart_width);
  if (offset >= keys_.size()) throw damaged_keys();
  return keys_.subspan(offset);
}

std::string Reader::key(std::uint64_t index) const {
  KeyCursor cursor(*this, index / layout_.restart_interval);
  for (std::uint64_t i = 0; i <= index % layout_.restart_interval; ++i) cursor.next();
  return cursor.key();
}

std::string Reader::etag(std::uint64_t index) const {
  const auto kind = static_cast<EtagKind>(load<std::uint8_t>(flags_ + index) & kEtagKindMask);
  std::string text;
  if (kind == EtagKind::kNone || layout_.etag_width == 0) return text;
  const std::byte* entry = etags_ + index * layout_.etag_width;
  if (kind == EtagKind::kText) {
    const auto offset = load<std::uint64_t>(entry), length = load<std::uint64_t>(entry + 8);
    if (offset > heap_.size() || length > heap_.size() - offset)
      throw CacheError("The manifest is damaged: an ETag lies outside it.");
    return std::string(as_text(heap_.subspan(offset, length)));
  }
  text.reserve(38);
  append_hex(text, entry);
  if (kind == EtagKind::kMultipart)
    fmt::format_to(std::back_inserter(text), "-{}",
                   load_number(parts_ + index * layout_.parts_width, layout_.parts_width));
  return text;
}

void Reader::read_columns(std::uint64_t index, ObjectInfo& object) const {
  object.size = object_size(index);
  object.etag = etag(index);
  object.last_modified_ms = static_cast<std::int64_t>(
      layout_.time_base +
      layout_.time_unit * load_number(times_ + index * layout_.time_width, layout_.time_width));
  object.archived = (load<std::uint8_t>(flags_ + index) & kArchivedFlag) != 0;
}

ObjectInfo Reader::object(std::uint64_t index) const {
  ObjectInfo object;
  object.key = key(index);
  read_columns(index, object);
  return object;
}

std::vector<ObjectInfo> Reader::objects(std::uint64_t first, std::uint64_t count) const {
  std::vector<ObjectInfo> objects;
  if (count == 0) return objects;
  objects.resize(count);
  KeyCursor cursor(*this, first / layout_.restart_interval);
  for (std::uint64_t i = first - first % layout_.restart_interval; i < first; ++i) cursor.next();
  for (std::uint64_t i = 0; i < count; ++i) {
    cursor.next();
    objects[i].key = cursor.key();
    read_columns(first + i, objects[i]);
  }
  return objects;
}

std::optional<std::uint64_t> Reader::find(std::string_view key) const {
  const auto first_key = [&](std::uint64_t run_index) {
    auto keys = run(run_index);
    return take_text(keys);
  };
  std::uint64_t low = 0,
                high =
                    layout_
                        .restarts();  // the run that may hold the key is the last that begins at or below it
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (first_key(middle) <= key) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return std::nullopt;
  KeyCursor cursor(*this, low - 1);
  const std::uint64_t begin = (low - 1) * layout_.restart_interval;
  const std::uint64_t end = std::min<std::uint64_t>(begin + layout_.restart_interval, layout_.objects);
  for (std::uint64_t index = begin; index < end; ++index) {
    cursor.next();
    const int order = cursor.key().compare(key);
    if (order == 0) return index;
    if (order > 0) break;
  }
  return std::nullopt;
}

}  // namespace alnair::manifest
