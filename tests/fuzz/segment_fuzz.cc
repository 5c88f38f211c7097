// A segment's bytes, whatever they are, give records within their bounds or nothing; what was written is read
// back.
#include <chrono>
#include <cstring>
#include <vector>

#include "alnair/core/hash.h"
#include "cache/directory/chunk_names.h"
#include "cache/directory/segment_format.h"
#include "cache/record.h"
#include "fuzz.h"

using namespace alnair;

namespace {

constexpr std::uint64_t kNonce = 42;

// As node memory does: from record to record, while they can be read.
void walk_records(std::span<const std::byte> segment) {
  for (std::uint64_t offset = 0; offset < segment.size();) {
    const auto header = read_record_header(segment, offset);
    if (!header) {
      offset += kRecordAlignment;
      continue;
    }
    const auto payload = record_payload(segment, offset, *header);
    (void)verify_record(*header, payload, kNonce);
    offset += record_size(header->length);
  }
}

void read_footer(std::span<const std::byte> file) {
  if (file.size() < kSegmentTrailerBytes) return;
  const auto size = footer_bytes(file.last(kSegmentTrailerBytes), file.size());
  if (!size) return;
  fuzz::check(*size <= file.size(), "a footer lies in its file");
  const auto footer = decode_footer(file.last(*size));
  if (!footer) return;
  for (const SegmentEntry& entry : footer->entries)
    fuzz::check(entry.offset >= kSegmentHeadBytes &&
                    std::uint64_t{entry.offset} + entry.length <= footer->records_end,
                "a record lies between head and footer");
}

// With a checksum that vouches for them.
void read_names(std::span<const std::byte> file) {
  if (file.size() < sizeof(std::uint64_t)) return;
  std::vector<std::byte> vouched(file.begin(), file.end());
  const std::uint64_t sum = checksum64(std::span(vouched).first(vouched.size() - sizeof(std::uint64_t)));
  std::memcpy(vouched.data() + vouched.size() - sizeof sum, &sum, sizeof sum);
  const auto names = decode_names(vouched);
  if (names && names->keep < std::chrono::hours(24 * 365))
    fuzz::check(encode_names(*names) == vouched, "names can be written again");
}

// The same with a checksum that vouches for it.
void read_vouched_footer(std::span<const std::byte> file) {
  if (file.size() < kSegmentTrailerBytes) return;
  const auto length = footer_bytes(file.last(kSegmentTrailerBytes), file.size());
  if (!length) return;
  std::vector<std::byte> vouched(file.begin(), file.end());
  const std::uint64_t sum = checksum64(std::span(vouched).last(*length).first(*length - sizeof sum));
  std::memcpy(vouched.data() + vouched.size() - sizeof sum, &sum, sizeof sum);
  read_footer(vouched);
}

// A footer survives, and a changed byte is noticed.
void round_trip_footer(fuzz::Input input) {
  SegmentFooter footer;
  footer.dataset = input.number(8);
  for (auto& byte : footer.nonce) byte = static_cast<std::uint8_t>(input.number(1));
  while (!input.empty() && footer.entries.size() < 100) {
    SegmentEntry entry;
    entry.hash = content_hash(input.bytes(3));
    entry.length = static_cast<std::uint32_t>(input.number(2));
    entry.offset = static_cast<std::uint32_t>(footer.records_end);
    footer.records_end += record_bytes(entry.length);
    footer.entries.push_back(entry);
  }
  std::vector<std::byte> bytes = encode_footer(footer);
  const std::uint64_t file_bytes = footer.records_end + bytes.size();
  const auto size = footer_bytes(std::span(bytes).last(kSegmentTrailerBytes), file_bytes);
  fuzz::check(size == bytes.size(), "a footer knows its size");
  const auto decoded = decode_footer(bytes);
  fuzz::check(decoded && decoded->entries.size() == footer.entries.size() &&
                  decoded->dataset == footer.dataset && decoded->nonce == footer.nonce,
              "a footer survives");
  const std::size_t damaged = (footer.dataset ^ footer.records_end) % bytes.size();
  bytes[damaged] ^= std::byte{1};
  fuzz::check(!decode_footer(bytes), "damage is noticed");
}

void round_trip_record(std::span<const std::byte> payload) {
  const RecordHeader header = make_record_header(content_hash(payload), payload, kNonce);
  fuzz::check(verify_record(header, payload, kNonce), "a record survives");
  fuzz::check(!verify_record(header, payload, kNonce + 1), "a record of another segment is none");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = fuzz::bytes_of(data, size);
  const std::string_view text = fuzz::text_of(data, size);
  walk_records(bytes);
  read_footer(bytes);
  read_vouched_footer(bytes);
  read_names(bytes);
  round_trip_footer(fuzz::Input(data, size));
  round_trip_record(bytes);
  if (const auto nonce = parse_segment_name(text))
    fuzz::check(segment_name(*nonce) == text, "a segment has one name");
  if (const auto name = parse_open_segment_name(text))
    fuzz::check(open_segment_name(name->nonce, name->node) == text, "an open segment has one name");
  if (const auto file = parse_names_file(text)) fuzz::check(names_file(*file) == text, "a file of names has one name");
  return 0;
}
