// Commands on their way: a batch as its caller gave it, and the requests that it consists of.
//
// Thread safety: a batch belongs to its engine's thread from post() on.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "redis/client.h"

namespace alnair::redis {

using Clock = std::chrono::steady_clock;

struct Batch {
  std::vector<Command> commands;  // one of these two is empty
  std::vector<std::string> keys;  // of GETs
  Client::Done done;
  CallOptions options;
  Clock::time_point deadline{};
  std::size_t left = 0;   // requests that have not ended
  bool internal = false;  // the engine's own, put to a node directly: not routed, not repeated

  std::size_t size() const { return commands.empty() ? keys.size() : commands.size(); }
};

// One command of a batch. Small: thousands are moved about.
struct Request {
  Batch* batch = nullptr;  // null: nobody waits for it any more
  std::uint32_t index = 0;
  std::uint16_t slot = 0;
  std::uint8_t redirections = 0;
  std::uint8_t repeats = 0;
  bool asking = false;          // send ASKING first
  bool of_replica = false;      // its master is gone: send READONLY first
  bool full_script = false;     // EVAL, not EVALSHA
  bool waited_for_map = false;  // once is enough

  bool is_get() const { return batch->commands.empty(); }
  const Command& command() const { return batch->commands[index]; }
  bool repeatable() const { return is_get() || command().repeatable; }
};

// Bytes to be sent, in order: texts are gathered, large arguments are sent from where they are.
class OutQueue {
 public:
  void append(std::string_view text);
  void append(const View& bytes);
  void append_header(char kind, std::uint64_t number);  // "*3", "$17"
  void append_bulk(std::string_view text);
  bool empty() const { return pieces_.empty(); }
  std::size_t size() const { return size_; }  // bytes

  // The first of what is to be sent; at most `pieces.size()`. Returns how many.
  std::size_t gather(std::span<iovec> pieces) const;
  void sent(std::size_t bytes);
  void clear();

 private:
  struct Piece {
    std::string text;
    View bytes;  // after the text
    std::size_t size() const { return text.size() + bytes.size(); }
  };
  std::string& text();  // the one at the end
  std::deque<Piece> pieces_;
  std::size_t offset_ = 0;  // in the first piece: sent
  std::size_t size_ = 0;
  std::string spare_;  // a text's memory, to be used again
};

// Appends the request in RESP form, ASKING apart.
void encode(const Request& request, OutQueue& out);

}  // namespace alnair::redis
