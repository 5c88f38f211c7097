#include "s3/credentials/context.h"

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

namespace alnair {

CredentialContext CredentialContext::of_process(std::shared_ptr<HttpClient> http) {
  return {[](const std::string& name) -> std::optional<std::string> {
            const char* value = std::getenv(name.c_str());
            if (value == nullptr || *value == '\0') return std::nullopt;
            return value;
          },
          std::move(http), [] { return std::chrono::system_clock::now(); }};
}

std::string home_directory(const CredentialContext& context) {
  if (auto home = context.environment("HOME")) return *home;
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 4096> strings{};
  if (getpwuid_r(geteuid(), &entry, strings.data(), strings.size(), &found) == 0 && found != nullptr)
    return entry.pw_dir;
  return "/";
}

std::string expand_home(const std::string& path, const CredentialContext& context) {
  if (path == "~" || path.compare(0, 2, "~/") == 0) return home_directory(context) + path.substr(1);
  return path;
}

}  // namespace alnair
