#include "manager/http/message.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "manager/api/fields.h"
#include "manager/http/listener.h"

namespace alnair::manager {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

Request parsed(std::string_view path, std::string_view query = "") {
  Request request;
  EXPECT_TRUE(parse_target(path, query, request)) << path << "?" << query;
  return request;
}

TEST(Target, IsSplitBeforeItIsDecoded) {
  EXPECT_THAT(parsed("/v1/jobs/a%2fb%20c+").path, ElementsAre("v1", "jobs", "a/b c+"));
  EXPECT_THAT(parsed("/").path, ElementsAre());
  EXPECT_THAT(parsed("/x", "a=1&b=x+y%26&c").query, ElementsAre(Pair("a", "1"), Pair("b", "x y&"), Pair("c", "")));
}

TEST(Target, TricksAreRefused) {
  for (const char* path :
       {"", "x", "//", "/v1//jobs", "/v1/", "/v1/../jobs", "/v1/%2e%2E/x", "/./x", "/%", "/%4", "/%zz", "/a%00b"}) {
    Request request;
    EXPECT_FALSE(parse_target(path, "", request)) << path;
  }
  Request request;
  EXPECT_FALSE(parse_target("/x", "a=1&a=2", request)) << "given twice";
}

TEST(Problem, IsADocumentWithTheRequestsId) {
  const Response response = problem_response({429, "too-many", "slow \xff down", 7}, "r1");
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.content_type, "application/problem+json");
  const auto body = nlohmann::json::parse(response.body);
  EXPECT_EQ(body["type"], "/problems/too-many");
  EXPECT_EQ(body["title"], "Too Many Requests");
  EXPECT_EQ(body["status"], 429);
  EXPECT_EQ(body["request_id"], "r1");
  EXPECT_THAT(response.headers, ElementsAre(Pair("Retry-After", "7")));
}

std::string problem_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Problem& problem) {
    return std::to_string(problem.status()) + " " + problem.what();
  }
  return "(no problem)";
}

TEST(Body, MustBeAnObjectInJson) {
  EXPECT_TRUE(parse_body("", "").is_object());
  EXPECT_THAT(problem_of([] { parse_body("{\"a\": sesame", ""); }),
              ::testing::AllOf(HasSubstr("400"), HasSubstr("byte 7"), ::testing::Not(HasSubstr("sesame"))));
  EXPECT_THAT(problem_of([] { parse_body("[]", ""); }), HasSubstr("422"));
  EXPECT_THAT(problem_of([] { parse_body("{}", "text/xml"); }), HasSubstr("415"));
  EXPECT_THAT(problem_of([] { parse_body(std::string(1000, '['), ""); }), HasSubstr("400"));
  EXPECT_THAT(problem_of([] { parse_body("{\"a\":" + std::string(1000, '[') + std::string(1000, ']') + "}", ""); }),
              HasSubstr("nested"));
  EXPECT_THAT(problem_of([] { parse_body("{\"a\": \"\xff\"}", ""); }), HasSubstr("400"));
}

TEST(Fields, NameWhatDoesNotFit) {
  const auto object =
      nlohmann::json::parse(R"({"name": "x\u0001", "n": -1, "flag": "yes", "list": ["a", 1], "keyz": []})");
  const auto reads = [&](auto read) {
    return problem_of([&] {
      Fields fields(object, "top");
      read(fields);
    });
  };
  EXPECT_THAT(reads([](Fields& f) { f.text("name", 10); }), HasSubstr("422 top.name: expected a text without control"));
  EXPECT_THAT(reads([](Fields& f) { f.text("name", 1); }), HasSubstr("at most 1 bytes"));
  EXPECT_THAT(reads([](Fields& f) { f.text("absent", 1); }), HasSubstr("top.absent is missing"));
  EXPECT_THAT(reads([](Fields& f) { f.number("n", 5); }), HasSubstr("top.n: expected a whole number from 0 to 5"));
  EXPECT_THAT(reads([](Fields& f) { f.boolean("flag"); }), HasSubstr("top.flag: expected true or false"));
  EXPECT_THAT(reads([](Fields& f) { f.texts("list", 5, 5); }), HasSubstr("top.list: expected a text"));
  EXPECT_THAT(reads([](Fields& f) { f.texts("list", 1, 5); }), HasSubstr("at most 1 texts"));
  EXPECT_THAT(reads([](Fields& f) { f.object("list", true); }), HasSubstr("top.list: expected an object"));
  EXPECT_THAT(reads([](Fields& f) { f.text_or("n", 0, ""); }), HasSubstr("top.n"));
  EXPECT_THAT(problem_of([] {
                const auto other = nlohmann::json::parse(R"({"keyz": 1})");
                Fields fields(other, "");
                fields.texts("keys", 1, 1);
                fields.end();
              }),
              HasSubstr("keyz is no field; did you mean keys?"));
}

TEST(Addresses, KnowWhichIsLoopback) {
  for (const char* address : {"127.0.0.1", "127.1.2.3", "::1"}) EXPECT_TRUE(is_loopback(address)) << address;
  for (const char* address : {"0.0.0.0", "10.0.0.1", "::", "localhost", ""})
    EXPECT_FALSE(is_loopback(address)) << address;
}

}  // namespace
}  // namespace alnair::manager
