#include "redis/resp_parser.h"

#include <gmock/gmock.h>

#include <cstring>
#include <optional>

namespace alnair::redis {
namespace {

using Outcome = RespParser::Outcome;

// Feeds `bytes`, at most `piece` at a time, and takes what is complete after each.
class Fed {
 public:
  explicit Fed(std::string_view bytes, std::size_t piece, const RespParser::Limits& limits = {}, std::uint64_t most = 0)
      : parser(limits) {
    while (!bytes.empty()) {
      std::size_t count = 0;
      for (const auto& place : parser.room()) {
        const std::size_t part = std::min({place.size(), piece - count, bytes.size()});
        if (part > 0) std::memcpy(place.data(), bytes.data(), part);
        bytes.remove_prefix(part);
        count += part;
        if (part < place.size()) break;
      }
      parser.received(count);
      Reply reply;
      Outcome outcome;
      while ((outcome = parser.next(reply, 0, most)) == Outcome::kReply) replies.push_back(std::move(reply));
      if (outcome == Outcome::kBroken) return;
    }
  }
  std::vector<Reply> replies;
  RespParser parser;
};

std::string shown(const Reply& reply) {
  switch (reply.type) {
    case Reply::Type::kNil:
      return "nil";
    case Reply::Type::kInteger:
      return std::to_string(reply.integer);
    case Reply::Type::kStatus:
      return "+" + std::string(reply.text());
    case Reply::Type::kError:
      return "-" + std::string(reply.text());
    case Reply::Type::kBulk:
      return "'" + std::string(reply.text()) + "'";
    case Reply::Type::kArray:
      break;
  }
  std::string text = "[";
  for (const Reply& element : reply.elements) text += (text.size() > 1 ? " " : "") + shown(element);
  return text + "]";
}

std::string parsed(std::string_view bytes, std::size_t piece = 1 << 20) {
  const Fed fed(bytes, piece);
  std::string text;
  for (const Reply& reply : fed.replies) text += (text.empty() ? "" : " ") + shown(reply);
  return fed.parser.problem() != nullptr ? text + " !" + fed.parser.problem() : text;
}

TEST(RespParser, ReadsEveryKindOfReplyHoweverItArrives) {
  const std::string_view bytes =
      "+OK\r\n-ERR no\r\n:-42\r\n$5\r\nhe\r\no\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n"
      "*3\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n$-1\r\n+last\r\n";
  const std::string expected = "+OK -ERR no -42 'he\r\no' '' nil nil [] ['a' [1 []] nil] +last";
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) EXPECT_EQ(parsed(bytes, piece), expected) << piece;
}

TEST(RespParser, ReceivesALargeValueStraightIntoItsPlace) {
  const std::string value(1'000'000, 'v');
  RespParser parser;
  const std::string head = "$1000000\r\n";
  std::memcpy(parser.room()[1].data(), head.data(), head.size());
  parser.received(head.size());
  Reply reply;
  ASSERT_EQ(parser.next(reply, 40), Outcome::kMore);
  const auto place = parser.room()[0];
  ASSERT_EQ(place.size(), value.size());
  EXPECT_EQ((reinterpret_cast<std::uintptr_t>(place.data()) + 40) % 64, 0u);
  std::memcpy(place.data(), value.data(), value.size());
  parser.received(value.size());
  ASSERT_EQ(parser.next(reply, 40), Outcome::kMore);
  std::memcpy(parser.room()[1].data(), "\r\n", 2);
  parser.received(2);
  ASSERT_EQ(parser.next(reply, 40), Outcome::kReply);
  EXPECT_EQ(reply.bytes.data(), place.data());
  EXPECT_TRUE(reply.text() == value);
  EXPECT_TRUE(parser.idle());
}

TEST(RespParser, ReadsValuesOfEverySizeOneAfterAnother) {
  std::string bytes;
  std::vector<std::string> values;
  for (const std::size_t size : {0, 1, 100, 16'383, 16'384, 16'385, 65'530, 65'536, 70'000, 200'000, 3}) {
    values.emplace_back(size, static_cast<char>('a' + values.size()));
    bytes += "$" + std::to_string(size) + "\r\n" + values.back() + "\r\n";
  }
  for (const std::size_t piece : {7, 1'000, 16'384, 65'536, 1'000'000}) {
    const Fed fed(bytes, piece);
    ASSERT_EQ(fed.replies.size(), values.size());
    for (std::size_t i = 0; i < values.size(); ++i)
      EXPECT_TRUE(fed.replies[i].text() == values[i]) << piece << " " << i;
  }
}

TEST(RespParser, KnowsGarbageAtOnce) {
  EXPECT_EQ(parsed("HTTP/1.1 400 Bad Request\r\n"), " !it does not begin as a reply of Redis does");
  EXPECT_EQ(parsed("x"), " !it does not begin as a reply of Redis does");
  EXPECT_EQ(parsed("+OK\r\n\r\n"), "+OK !it does not begin as a reply of Redis does");
  EXPECT_EQ(parsed(":12a\r\n"), " !a number is malformed");
  EXPECT_EQ(parsed("$\r\n"), " !a number is malformed");
  EXPECT_EQ(parsed(":99999999999999999999\r\n"), " !a number is malformed");
  EXPECT_EQ(parsed("$-2\r\n"), " !a bulk string has a negative length");
  EXPECT_EQ(parsed("*-2\r\n"), " !an array has a negative length");
  EXPECT_EQ(parsed("+OK\n"), " !a line does not end in CR LF");
  EXPECT_EQ(parsed("$3\r\nabcd\r\n"), " !a bulk string is longer or shorter than announced");
  EXPECT_EQ(parsed("$600000000\r\n"), " !a bulk string is too long");
  EXPECT_EQ(parsed("*2000000\r\n"), " !an array is too long");
  EXPECT_EQ(parsed("+" + std::string(70'000, 'x')), " !a line is too long");
  std::string nested;
  for (int i = 0; i < 9; ++i) nested += "*1\r\n";
  EXPECT_EQ(parsed(nested), " !arrays are nested too deeply");
}

TEST(RespParser, StaysBroken) {
  Fed fed("?\r\n", 3);
  Reply reply;
  std::memcpy(fed.parser.room()[1].data(), "+OK\r\n", 5);
  fed.parser.received(5);
  EXPECT_EQ(fed.parser.next(reply), Outcome::kBroken);
}

TEST(RespParserTest, ABulkStringThatIsTooLongIsDroppedAsItComes) {
  const std::string stream = "$10\r\n0123456789\r\n$200000\r\n" + std::string(200'000, 'x') + "\r\n$2\r\nok\r\n";
  for (const std::size_t piece : {1, 7, 1000, 65'536, 1 << 20}) {
    const Fed fed(stream, piece, {}, 1000);
    ASSERT_EQ(fed.replies.size(), 3u) << piece;
    EXPECT_EQ(shown(fed.replies[0]), "'0123456789'");
    EXPECT_EQ(shown(fed.replies[1]), "''");
    EXPECT_EQ(shown(fed.replies[2]), "'ok'");
  }
}

}  // namespace
}  // namespace alnair::redis
