// Whatever a server sends, in whatever pieces: the same replies are read, or the stream is refused; and what a reply
// may mean (a map of slots, an error) is read or refused.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "fuzz.h"
#include "redis/resp_parser.h"
#include "redis/server_error.h"
#include "redis/slot_map.h"

using namespace alnair;
using namespace alnair::redis;

namespace {

struct Parsed {
  std::vector<Reply> replies;
  bool broken = false;
};

// Feeds pieces of 1, 2, ... `largest` bytes, over and over.
Parsed parse(std::string_view bytes, std::size_t largest) {
  RespParser parser({.max_bulk_bytes = 1 << 20, .max_elements = 1000, .max_depth = 4});
  Parsed parsed;
  std::size_t piece = 0;
  while (!bytes.empty() && !parsed.broken) {
    piece = piece % largest + 1;
    const auto room = parser.room();
    fuzz::check(room[0].size() + room[1].size() > 0, "there is room");
    std::size_t count = 0;
    for (const auto& place : room) {
      const std::size_t part = std::min({place.size(), piece - count, bytes.size()});
      if (part > 0) std::memcpy(place.data(), bytes.data(), part);
      bytes.remove_prefix(part);
      count += part;
      if (part < place.size()) break;
    }
    parser.received(count);
    Reply reply;
    RespParser::Outcome outcome;
    while ((outcome = parser.next(reply, piece)) == RespParser::Outcome::kReply)
      parsed.replies.push_back(std::move(reply));
    parsed.broken = outcome == RespParser::Outcome::kBroken;
    fuzz::check(parsed.broken == (parser.problem() != nullptr), "a broken stream has a problem");
  }
  return parsed;
}

std::string encoded(const Reply& reply) {
  const std::string text(reply.text());
  switch (reply.type) {
    case Reply::Type::kNil:
      return "$-1\r\n";
    case Reply::Type::kStatus:
      return "+" + text + "\r\n";
    case Reply::Type::kError:
      return "-" + text + "\r\n";
    case Reply::Type::kInteger:
      return ":" + std::to_string(reply.integer) + "\r\n";
    case Reply::Type::kBulk:
      return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
    case Reply::Type::kArray:
      break;
  }
  std::string all = "*" + std::to_string(reply.elements.size()) + "\r\n";
  for (const Reply& element : reply.elements) all += encoded(element);
  return all;
}

void understand_all(const Reply& reply) {
  const Address asked{.host = "host", .port = 1};
  for (const auto& map : {SlotMap::from_slots(reply, asked), SlotMap::from_shards(reply, asked, false)}) {
    if (!map) continue;
    for (std::uint16_t slot = 0; slot < kSlots; slot += 61) {
      const Address* owner = map->owner(slot);
      fuzz::check(owner == nullptr || map->serves(*owner), "an owner is a master");
    }
    (void)map->uncovered();
  }
  const ServerErrorInfo info = understand(reply.text());
  if (info.error == ServerError::kMoved || info.error == ServerError::kAsk)
    fuzz::check(info.slot < kSlots && info.target.port != 0, "a redirection leads somewhere");
  fuzz::check(quoted(reply.text()).size() < 300, "a message is short");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  const Parsed whole = parse(bytes, std::max<std::size_t>(size, 1));
  const Parsed pieces = parse(bytes, 7);
  fuzz::check(whole.broken == pieces.broken && whole.replies.size() == pieces.replies.size(), "pieces do not matter");
  for (std::size_t i = 0; i < whole.replies.size(); ++i) {
    const std::string again = encoded(whole.replies[i]);
    fuzz::check(again == encoded(pieces.replies[i]), "pieces do not matter to a reply");
    const Parsed reparsed = parse(again, again.size());
    fuzz::check(reparsed.replies.size() == 1 && encoded(reparsed.replies[0]) == again, "a reply can be read again");
    understand_all(whole.replies[i]);
  }
  return 0;
}
