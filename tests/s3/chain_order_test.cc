// The chain's order against botocore's, over all combinations of what can be configured.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "alnair/core/error.h"
#include "s3/credential_world.h"
#include "support/python.h"

namespace alnair {
namespace {

using testing::CredentialWorld;
using testing::http_answer;

enum Link {
  kEnvironment = 1,
  kKeys = 2,  // in the credentials file
  kConfigKeys = 4,
  kProcess = 8,
  kRole = 16,
  kWebIdentity = 32,
  kContainer = 64,
  kInstance = 128,
  kAll = 256
};

std::string config_lines(int links) {
  std::string lines = "[profile p]\nregion = us-east-1\n";
  if (links & kConfigKeys) lines += "aws_access_key_id = CONFIG\naws_secret_access_key = s\n";
  if (links & kProcess)
    lines += R"(credential_process = echo '{"Version": 1, "AccessKeyId": "PROCESS", "SecretAccessKey": "s"}')"
             "\n";
  if (links & kRole) lines += "role_arn = arn:r\nsource_profile = base\n";
  return lines + "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = s\n";
}

// The world in which just these links are configured.
void configure(CredentialWorld& world, int links) {
  auto& environment = world.environment;
  environment["AWS_PROFILE"] = "p";
  environment["PATH"] = "/usr/bin:/bin";
  world.write(".aws/config", config_lines(links));
  if (links & kKeys)
    world.write(".aws/credentials", "[p]\naws_access_key_id = KEYS\naws_secret_access_key = s\n");
  if (links & kEnvironment)
    environment["AWS_ACCESS_KEY_ID"] = "ENVIRONMENT", environment["AWS_SECRET_ACCESS_KEY"] = "s";
  if (links & kWebIdentity) {
    world.write("token", "t");
    environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = world.path("token");
    environment["AWS_ROLE_ARN"] = "arn:w";
  }
  if (links & kContainer) environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/c";
  if (!(links & kInstance)) environment["NO_INSTANCE"] = "1";
  world.http = std::make_shared<testing::FakeHttp>([links](const HttpRequest& request) {
    const auto has = [&](const char* text) {
      return (request.url + request.body).find(text) != std::string::npos;
    };
    if (has("AssumeRoleWithWebIdentity"))
      return http_answer(200, testing::sts_answer("AssumeRoleWithWebIdentity", "WEB"));
    if (has("AssumeRole")) return http_answer(200, testing::sts_answer("AssumeRole", "ROLE"));
    if (has("169.254.170.2/")) return http_answer(200, testing::metadata_answer("CONTAINER"));
    if (!(links & kInstance)) return http_answer(404, "");
    if (has("api/token")) return http_answer(200, "T");
    return has("credentials/r") ? http_answer(200, testing::metadata_answer("INSTANCE"))
                                : http_answer(200, "r");
  });
}

std::string ours(CredentialWorld& world) {
  try {
    return world.load().keys.access_key_id;
  } catch (const ConfigError&) {
    return "NONE";
  }
}

// One deviation: botocore lets AWS_WEB_IDENTITY_TOKEN_FILE win over keys in a profile that was chosen; with
// us, as with AWS's C++ SDK, all of the profile comes first.
bool deviates(int links) {
  return !(links & (kEnvironment | kRole)) && (links & kWebIdentity) &&
         (links & (kKeys | kConfigKeys | kProcess));
}

TEST(CredentialChain, HasBotocoresOrder) {
  const std::string python = testing::python_with("botocore");
  if (python.empty()) GTEST_SKIP() << "needs botocore: set ALNAIR_TEST_PYTHON to a Python that has it";
  const testing::TemporaryDirectory directory;
  std::vector<std::unique_ptr<CredentialWorld>> worlds;
  nlohmann::json environments = nlohmann::json::array();
  std::vector<int> combinations = {kEnvironment,
                                   kAll - 1};  // the environment wins over whatever else there is
  for (int links = 0; links < kAll; ++links)
    if (!(links & kEnvironment)) combinations.push_back(links);
  for (const int links : combinations) {
    worlds.push_back(std::make_unique<CredentialWorld>());
    configure(*worlds.back(), links);
    environments.push_back(worlds.back()->environment);
  }
  std::ofstream(directory / "environments.json") << environments;
  const auto script = std::filesystem::path(ALNAIR_TEST_SOURCE_DIR) / "s3/chain_order.py";
  std::istringstream theirs(
      testing::output_of(fmt::format("{} {} {}", python, script.string(), directory / "environments.json")));
  std::string expected;
  for (std::size_t i = 0; i < combinations.size(); ++i) {
    const int links = combinations[i];
    ASSERT_TRUE(std::getline(theirs, expected));
    const std::string found = ours(*worlds[i]);
    if (deviates(links)) {
      EXPECT_EQ(expected, "WEB") << links;
      EXPECT_EQ(found, links & kKeys ? "KEYS" : links & kProcess ? "PROCESS" : "CONFIG") << links;
    } else {
      EXPECT_EQ(found, expected) << links;
    }
  }
}

}  // namespace
}  // namespace alnair
