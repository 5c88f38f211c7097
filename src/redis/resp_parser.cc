#include "redis/resp_parser.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

namespace alnair::redis {
namespace {

constexpr std::size_t kBuffer = 64 << 10;     // bytes; also the longest line
constexpr std::size_t kLeastRoom = 16 << 10;  // at the buffer's end, before what is in it is moved to its front
constexpr std::size_t kLargeBulk = 16 << 10;  // a bulk string with more to come than that is received with...
constexpr std::size_t kAfterLargeBulk = 64;   // ...so much of what follows: the next header, little of the next value
constexpr std::size_t kAlignment = 64;

View copied(std::string_view text) {
  Buffer buffer(text.size());
  std::memcpy(buffer.data(), text.data(), text.size());
  return std::move(buffer).freeze();
}

bool parse_integer(std::string_view text, std::int64_t& value) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data() + (text.starts_with('+') ? 1 : 0), end, value);
  return error == std::errc() && stopped == end;
}

}  // namespace

RespParser::RespParser(const Limits& limits) : limits_(limits), buffer_(kBuffer) {}

std::array<std::span<std::byte>, 2> RespParser::room() {
  if (begin_ == end_) begin_ = end_ = 0;
  if (buffer_.size() - end_ < kLeastRoom) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  std::span<std::byte> rest;
  std::span<std::byte> after(buffer_.data() + end_, buffer_.size() - end_);
  if (in_bulk_) {
    if (skipping_) {
      rest = {block_.data(), std::min(block_.size(), length_ - filled_)};
      if (rest.size() < length_ - filled_) return {rest, {}};
      return {rest, after};
    }
    rest = {block_.data() + block_start_ + filled_, length_ - filled_};
    if (rest.size() > kLargeBulk) after = after.first(std::min(after.size(), kAfterLargeBulk));
  }
  return {rest, after};
}

void RespParser::received(std::size_t count) {
  if (in_bulk_) {
    const std::size_t part = std::min(count, length_ - filled_);
    filled_ += part;
    count -= part;
  }
  end_ += count;
}

RespParser::Outcome RespParser::next(Reply& reply, std::uint64_t body_offset, std::uint64_t most_bytes) {
  if (problem_ != nullptr) return Outcome::kBroken;
  while (true) {
    Reply value;
    switch (step(value, body_offset, most_bytes)) {
      case Step::kMore:
        return Outcome::kMore;
      case Step::kBroken:
        return Outcome::kBroken;
      case Step::kOpened:
        continue;
      case Step::kDone:
        break;
    }
    // A complete value may complete the arrays that it is the last element of.
    while (!frames_.empty()) {
      Frame& frame = frames_.back();
      frame.array.elements.push_back(std::move(value));
      if (--frame.left > 0) break;
      value = std::move(frame.array);
      frames_.pop_back();
      if (frames_.empty()) {
        elements_ = 0;
        reply = std::move(value);
        return Outcome::kReply;
      }
    }
    if (frames_.empty()) {
      reply = std::move(value);
      return Outcome::kReply;
    }
  }
}

RespParser::Step RespParser::step(Reply& value, std::uint64_t body_offset, std::uint64_t most_bytes) {
  if (in_bulk_) return finish_bulk(value);
  std::string_view line;
  if (!take_line(line)) {
    if (problem_ != nullptr) return Step::kBroken;
    if (begin_ < end_ && std::string_view("+-:$*").find(static_cast<char>(buffer_[begin_])) == std::string_view::npos)
      return broken("it does not begin as a reply of Redis does");  // said at once, not after a line of garbage
    return Step::kMore;
  }
  const char kind = line.empty() ? '\0' : line.front();
  if (!line.empty()) line.remove_prefix(1);
  std::int64_t number = 0;
  if ((kind == ':' || kind == '$' || kind == '*') && !parse_integer(line, number))
    return broken("a number is malformed");
  switch (kind) {
    case '+':
    case '-':
      value.type = kind == '+' ? Reply::Type::kStatus : Reply::Type::kError;
      value.bytes = copied(line);
      return Step::kDone;
    case ':':
      value.type = Reply::Type::kInteger;
      value.integer = number;
      return Step::kDone;
    case '$':
      return begin_bulk(number, frames_.empty() ? body_offset : 0, frames_.empty() ? most_bytes : 0, value);
    case '*':
      if (number == -1) return Step::kDone;  // a nil
      if (number < 0) return broken("an array has a negative length");
      if (static_cast<std::uint64_t>(number) > limits_.max_elements - elements_) return broken("an array is too long");
      value.type = Reply::Type::kArray;
      if (number == 0) return Step::kDone;
      if (frames_.size() == limits_.max_depth) return broken("arrays are nested too deeply");
      elements_ += static_cast<std::size_t>(number);
      frames_.push_back({static_cast<std::size_t>(number), std::move(value)});
      return Step::kOpened;
    default:
      return broken("it does not begin as a reply of Redis does");
  }
}

RespParser::Step RespParser::begin_bulk(std::int64_t length, std::uint64_t body_offset, std::uint64_t most_bytes, Reply& value) {
  if (length == -1) return Step::kDone;  // a nil
  if (length < 0) return broken("a bulk string has a negative length");
  if (static_cast<std::uint64_t>(length) > limits_.max_bulk_bytes) return broken("a bulk string is too long");
  length_ = static_cast<std::size_t>(length);
  block_start_ = 0;
  skipping_ = most_bytes > 0 && length_ > most_bytes;
  if (skipping_) {
    block_ = RecycledBuffer(std::min(length_, kBuffer));
  } else if (body_offset == 0) {
    block_ = RecycledBuffer(length_);
  } else {
    block_ = RecycledBuffer(length_ + kAlignment - 1);
    const auto body = reinterpret_cast<std::uintptr_t>(block_.data()) + body_offset;
    block_start_ = (kAlignment - body % kAlignment) % kAlignment;
  }
  filled_ = std::min(length_, end_ - begin_);
  if (!skipping_) std::memcpy(block_.data() + block_start_, buffer_.data() + begin_, filled_);
  begin_ += filled_;
  in_bulk_ = true;
  return finish_bulk(value);
}

RespParser::Step RespParser::finish_bulk(Reply& value) {
  if (filled_ < length_ || end_ - begin_ < 2) return Step::kMore;
  if (buffer_[begin_] != std::byte{'\r'} || buffer_[begin_ + 1] != std::byte{'\n'})
    return broken("a bulk string is longer or shorter than announced");
  begin_ += 2;
  in_bulk_ = false;
  value.type = Reply::Type::kBulk;
  if (!std::exchange(skipping_, false)) value.bytes = std::move(block_).freeze().part(block_start_, length_);
  return Step::kDone;
}

// Takes a line without its end.
bool RespParser::take_line(std::string_view& line) {
  const std::string_view text(reinterpret_cast<const char*>(buffer_.data()) + begin_, end_ - begin_);
  const std::size_t end = text.find('\n', scanned_);
  if (end == std::string_view::npos) {
    scanned_ = text.size();
    if (text.size() >= kBuffer - kLeastRoom) broken("a line is too long");
    return false;
  }
  scanned_ = 0;
  if (end == 0 || text[end - 1] != '\r') {
    broken("a line does not end in CR LF");
    return false;
  }
  line = text.substr(0, end - 1);
  begin_ += end + 1;
  return true;
}

RespParser::Step RespParser::broken(const char* problem) {
  problem_ = problem;
  in_bulk_ = skipping_ = false;
  block_ = {};
  frames_.clear();
  return Step::kBroken;
}

}  // namespace alnair::redis
