// Every stage of the signer against botocore's, over thousands of generated requests.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "s3/sigv4.h"
#include "support/python.h"

namespace alnair {
namespace {

using nlohmann::json;

std::string sorted_parameters(const std::string& query) {
  std::vector<std::string> parameters;
  std::istringstream stream(query);
  for (std::string parameter; std::getline(stream, parameter, '&');) parameters.push_back(parameter);
  std::sort(parameters.begin(), parameters.end());
  std::string result;
  for (const std::string& parameter : parameters) result += parameter + "\n";
  return result;
}

void check_headers(const json& expected, const SigningRequest& request, const S3Credentials& credentials,
                   const std::string& region, SigningTime time, SigningKeyCache& keys) {
  const std::vector<Header> added = sign_headers(request, credentials, region, time, keys);
  ASSERT_EQ(added.back().name, "Authorization");
  EXPECT_EQ(added.back().value, expected["authorization"].get<std::string>());

  std::vector<Header> headers(request.headers.begin(), request.headers.end());
  headers.insert(headers.end(), added.begin(), added.end() - 1);
  SigningRequest complete = request;
  complete.headers = headers;
  const CanonicalRequest canonical = canonical_request(complete);
  EXPECT_EQ(canonical.text, expected["canonical_request"].get<std::string>());
  const std::string text = string_to_sign(time, credential_scope(time, region), canonical.text);
  EXPECT_EQ(text, expected["string_to_sign"].get<std::string>());
  EXPECT_EQ(signature(signing_key(credentials.secret_access_key, time, region), text),
            expected["signature"].get<std::string>());
}

void check(const json& expected, SigningKeyCache& keys) {
  const S3Credentials credentials{expected["key_id"], expected["secret"], expected["token"]};
  const std::string region = expected["region"], method = expected["method"], host = expected["host"];
  const SigningTime time{std::chrono::seconds(expected["time"].get<std::int64_t>())};
  const std::string path = percent_encoded(expected["path"].get<std::string>(), Slashes::kKeep);
  std::vector<QueryParameter> parameters;
  for (const json& parameter : expected["query"]) parameters.push_back({parameter[0], parameter[1]});
  if (expected["presign"]) {
    const std::string query = presign_query(method, host, path, parameters, credentials, region, time,
                                            std::chrono::seconds(expected["expires"].get<int>()), keys);
    EXPECT_EQ(sorted_parameters(query), sorted_parameters(expected["url_query"]));
    return;
  }
  std::vector<Header> headers = {{"Host", host}};
  for (const json& header : expected["headers"]) headers.push_back({header[0], header[1]});
  const std::string payload = expected["payload"];
  const std::string hash = payload == kUnsignedPayload ? payload : hex(sha256(payload));
  const std::string query = canonical_query(parameters);
  check_headers(expected, {method, path, query, headers, hash}, credentials, region, time, keys);
}

TEST(SigV4, AgreesWithBotocoreAtEveryStage) {
  const std::string python = testing::python_with("botocore");
  if (python.empty()) GTEST_SKIP() << "needs botocore: set ALNAIR_TEST_PYTHON to a Python that has it";
  const bool stress = std::getenv("ALNAIR_TEST_STRESS") != nullptr;
  const auto script = std::filesystem::path(ALNAIR_TEST_SOURCE_DIR) / "s3/sigv4_cases.py";
  std::istringstream cases(
      testing::output_of(python + " " + script.string() + (stress ? " 100000 2" : " 4000 1")));
  SigningKeyCache keys;
  int count = 0;
  for (std::string line; std::getline(cases, line); ++count) {
    check(json::parse(line), keys);
    if (HasFailure()) FAIL() << "case " << count << ": " << line;
  }
  EXPECT_GE(count, 4000);
}

}  // namespace
}  // namespace alnair
