// What the credential chain sees of the world, so that tests can replace it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "alnair/source/object_source.h"
#include "alnair/source/s3_source.h"
#include "http/client.h"

namespace alnair {

using SystemTime = std::chrono::system_clock::time_point;

// Thread safety: the functions may be called from any thread.
struct CredentialContext {
  // An environment variable's value; nullopt when it is unset or empty.
  std::function<std::optional<std::string>(const std::string& name)> environment;
  std::shared_ptr<HttpClient> http;
  std::function<SystemTime()> now;

  // The process's own environment and clock.
  static CredentialContext of_process(std::shared_ptr<HttpClient> http);
};

// Credentials as one link of the chain found them.
struct LoadedCredentials {
  S3Credentials keys;
  std::optional<SystemTime> expires;  // nullopt: they last
  std::string origin;                 // for messages: "the environment", "profile 'dev'"
};

// HOME, else the user's entry in the password database; and a path with "~/" at its front replaced by that.
std::string home_directory(const CredentialContext& context);
std::string expand_home(const std::string& path, const CredentialContext& context);

}  // namespace alnair
