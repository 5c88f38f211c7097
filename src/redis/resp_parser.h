// Parses RESP2 replies from a stream of bytes, without copying large values: the bytes of a bulk string are received
// straight into the block that its View will own.
//
//   while (...) {
//     const std::size_t count = readv(fd, parser.room()...);   // into both places, in order
//     parser.received(count);
//     while (parser.next(reply) == RespParser::Outcome::kReply) use(reply);
//   }
//
// Pure: no I/O. What it is fed may be anything: memory grows with what has arrived, not with what was announced, but
// for one bulk string of at most `max_bulk_bytes` at a time.
//
// Thread safety: none.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/recycled_buffer.h"
#include "redis/reply.h"

namespace alnair::redis {

class RespParser {
 public:
  struct Limits {
    std::uint64_t max_bulk_bytes = 512ull << 20;  // what Redis itself allows
    std::size_t max_elements = 1 << 20;           // of all arrays of one reply together
    std::size_t max_depth = 8;
  };

  RespParser() : RespParser(Limits()) {}
  explicit RespParser(const Limits& limits);

  // Where the next bytes go, in this order; the first may be empty. Valid until the next call of another method.
  std::array<std::span<std::byte>, 2> room();
  // So many bytes are there now; at most the size of room().
  void received(std::size_t count);

  enum class Outcome {
    kReply,
    kMore,    // needs more bytes
    kBroken,  // this is no RESP; what follows cannot be understood, and every later call says the same
  };
  // Takes the next reply. The byte at `body_offset` of a bulk string that is not in an array is aligned to 64 bytes. One longer than
  // `most_bytes` is dropped as it comes, and is an empty one (0: as long as the limits allow).
  Outcome next(Reply& reply, std::uint64_t body_offset = 0, std::uint64_t most_bytes = 0);

  // What is wrong with the stream, once it is broken: a text without a byte of the stream.
  const char* problem() const { return problem_; }
  // Nothing of a reply has arrived yet.
  bool idle() const { return begin_ == end_ && frames_.empty() && !in_bulk_; }

 private:
  struct Frame {  // an array whose elements are being received
    std::size_t left = 0;
    Reply array;
  };
  enum class Step { kDone, kOpened, kMore, kBroken };  // a value is complete; an array was opened

  Step step(Reply& value, std::uint64_t body_offset, std::uint64_t most_bytes);
  Step begin_bulk(std::int64_t length, std::uint64_t body_offset, std::uint64_t most_bytes, Reply& value);
  Step finish_bulk(Reply& value);
  bool take_line(std::string_view& line);
  Step broken(const char* problem);

  const Limits limits_;
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // of what has arrived and is not parsed
  std::size_t scanned_ = 0;          // from begin_: no line end in there
  std::vector<Frame> frames_;
  std::size_t elements_ = 0;

  bool in_bulk_ = false;   // a bulk string is being received into block_
  bool skipping_ = false;  // and dropped: block_ is a part of its size
  RecycledBuffer block_;
  std::size_t block_start_ = 0;  // where it begins in there
  std::size_t length_ = 0, filled_ = 0;
  const char* problem_ = nullptr;
};

}  // namespace alnair::redis
