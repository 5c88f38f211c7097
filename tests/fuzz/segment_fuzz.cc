// Segments: a footer decodes or is damaged, and one that decodes stays within its file. A record header is within bounds.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "alnair/core/hash.h"
#include "cache/directory/segment_format.h"
#include "cache/record.h"

namespace {

void check(std::span<const std::byte> file) {
  if (file.size() < alnair::kSegmentTrailerBytes) return;
  const auto length = alnair::footer_bytes(file.last(alnair::kSegmentTrailerBytes), file.size());
  if (!length) return;
  if (*length > file.size()) __builtin_trap();
  const auto footer = alnair::decode_footer(file.last(*length));
  if (!footer) return;
  for (const auto& entry : footer->entries)
    if (entry.offset < alnair::kSegmentHeadBytes || entry.offset + std::uint64_t{entry.length} > footer->records_end) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  check(bytes);
  if (size >= alnair::kSegmentTrailerBytes) {  // the same with a checksum that vouches for it
    std::vector<std::byte> file(bytes.begin(), bytes.end());
    const auto length = alnair::footer_bytes(std::span(file).last(alnair::kSegmentTrailerBytes), file.size());
    if (length && *length >= 8 && *length <= file.size()) {
      const std::uint64_t sum = alnair::checksum64(std::span(file).last(*length).first(*length - 8));
      std::memcpy(file.data() + file.size() - 8, &sum, 8);
      check(file);
    }
  }
  for (std::uint64_t offset = 0; offset < size; offset += alnair::kRecordAlignment)
    if (const auto header = alnair::read_record_header(bytes, offset))
      (void)alnair::verify_record(*header, alnair::record_payload(bytes, offset, *header), 1);
  const std::string_view name(reinterpret_cast<const char*>(data), size);
  if (const auto nonce = alnair::parse_segment_name(name); nonce && alnair::segment_name(*nonce) != name) __builtin_trap();
  (void)alnair::parse_open_segment_name(name);
  return 0;
}
