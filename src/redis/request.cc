#include "redis/request.h"

#include <array>
#include <charconv>
#include <utility>

namespace alnair::redis {
namespace {

constexpr std::size_t kCopied = 1024;     // bytes: smaller arguments are copied behind the text before them
constexpr std::size_t kPiece = 64 << 10;  // bytes of a text, about

}  // namespace

std::string& OutQueue::text() {
  if (pieces_.empty() || !pieces_.back().bytes.empty() || pieces_.back().text.size() >= kPiece)
    pieces_.push_back({std::exchange(spare_, {}), {}});
  return pieces_.back().text;
}

void OutQueue::append(std::string_view more) {
  text().append(more);
  size_ += more.size();
}

void OutQueue::append(const View& bytes) {
  if (bytes.size() <= kCopied) return append(bytes.text());
  text();
  pieces_.back().bytes = bytes;
  size_ += bytes.size();
}

void OutQueue::append_header(char kind, std::uint64_t number) {
  std::array<char, 24> line;
  line[0] = kind;
  char* end = std::to_chars(line.data() + 1, line.data() + line.size() - 2, number).ptr;
  *end++ = '\r';
  *end++ = '\n';
  append({line.data(), static_cast<std::size_t>(end - line.data())});
}

void OutQueue::append_bulk(std::string_view value) {
  append_header('$', value.size());
  append(value);
  append("\r\n");
}

std::size_t OutQueue::gather(std::span<iovec> pieces) const {
  std::size_t count = 0, skip = offset_;
  const auto take = [&](const void* data, std::size_t size) {
    if (skip >= size) {
      skip -= size;
    } else {
      if (count == pieces.size()) return false;
      pieces[count++] = {const_cast<char*>(static_cast<const char*>(data)) + skip, size - skip};
      skip = 0;
    }
    return true;
  };
  for (const Piece& piece : pieces_)
    if (!take(piece.text.data(), piece.text.size()) || !take(piece.bytes.data(), piece.bytes.size())) break;
  return count;
}

void OutQueue::sent(std::size_t bytes) {
  size_ -= bytes;
  offset_ += bytes;
  while (!pieces_.empty() && offset_ >= pieces_.front().size()) {
    offset_ -= pieces_.front().size();
    spare_ = std::move(pieces_.front().text);
    spare_.clear();
    pieces_.pop_front();
  }
}

void OutQueue::clear() {
  pieces_.clear();
  offset_ = size_ = 0;
}

void encode(const Request& request, OutQueue& out) {
  if (request.is_get()) {
    out.append("*2\r\n$3\r\nGET\r\n");
    return out.append_bulk(request.batch->keys[request.index]);
  }
  const Command& command = request.command();
  out.append_header('*', command.args.size());
  std::size_t next = 0;
  if (command.script != nullptr) {  // the first two arguments are places for what is decided here
    out.append_bulk(request.full_script ? "EVAL" : "EVALSHA");
    out.append_bulk(request.full_script ? command.script->source() : command.script->sha1());
    next = 2;
  }
  for (; next < command.args.size(); ++next) {
    const Argument& argument = command.args[next];
    out.append_header('$', argument.size());
    out.append(std::string_view(argument.text));
    out.append(argument.bytes);
    out.append("\r\n");
  }
}

}  // namespace alnair::redis
