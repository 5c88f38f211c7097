// A world for the credential chain: a home directory, environment variables and a network of the test's own.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "s3/credentials/chain.h"
#include "support/fake_http.h"
#include "support/temporary_directory.h"

namespace alnair::testing {

class CredentialWorld {
 public:
  CredentialWorld() {
    std::filesystem::create_directory(home_ / ".aws");
    environment["HOME"] = home_.path();
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(home_ / name, std::ios::binary) << text;
  }
  std::string path(const std::string& name) const { return home_ / name; }

  CredentialContext context() {
    return {[this](const std::string& name) -> std::optional<std::string> {
              const auto found = environment.find(name);
              if (found == environment.end() || found->second.empty()) return std::nullopt;
              return found->second;
            },
            http, [this] { return now; }};
  }
  LoadedCredentials load(const std::string& profile = "", const std::string& region = "") {
    return load_credentials(profile, region, context(), {});
  }
  // The error that load() ends with.
  template <typename Expected>
  std::string failure(const std::string& profile = "") {
    try {
      return fmt::format("(credentials {} from {})", load(profile).keys.access_key_id, "a link of the chain");
    } catch (const Expected& error) {
      return error.what();
    }
  }

  std::map<std::string, std::string> environment;
  SystemTime now{std::chrono::seconds{1'700'000'000}};
  // By default nothing answers.
  std::shared_ptr<FakeHttp> http = std::make_shared<FakeHttp>(
      [](const HttpRequest&) { return http_failure(HttpFailure::kConnectTimeout, "Connection timed out"); });

 private:
  TemporaryDirectory home_;
};

inline std::string sts_answer(const std::string& action, const std::string& key_id) {
  return fmt::format(
      "<{0}Response "
      "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{0}Result><Credentials><AccessKeyId>{1}"
      "</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey><SessionToken>role-token</SessionToken>"
      "<Expiration>2030-01-01T00:00:00Z</Expiration></Credentials></{0}Result></{0}Response>",
      action, key_id);
}

inline std::string metadata_answer(const std::string& key_id) {
  return fmt::format(
      R"({{"Code":"Success","AccessKeyId":"{}","SecretAccessKey":"s","Token":"t","Expiration":"2030-01-01T00:00:00Z"}})",
      key_id);
}

}  // namespace alnair::testing
