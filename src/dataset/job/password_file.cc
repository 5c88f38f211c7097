#include "dataset/job/password_file.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alnair/core/error.h"
#include "redis/url.h"

namespace alnair {

void PasswordFile::write(const std::string& password) {
  if (password.empty()) return;
  if (!file_) file_ = FileDescriptor(memfd_create("alnair-password", MFD_CLOEXEC));
  if (!file_) return;
  // Passwords are equally long: whoever reads meanwhile gets one or the other.
  if (pwrite(file_.get(), password.data(), password.size(), 0) != static_cast<ssize_t>(password.size()) ||
      ftruncate(file_.get(), static_cast<off_t>(password.size())) != 0)
    file_ = FileDescriptor();
}

std::string PasswordFile::path() const { return file_ ? fmt::format("/proc/{}/fd/{}", getpid(), file_.get()) : ""; }

std::string password_of(const std::string& redis_url) {
  if (redis_url.empty()) return "";
  try {
    return redis::parse_url(redis_url).password;
  } catch (const ConfigError&) {  // what somebody has left
    return "";
  }
}

std::string with_password_file(const std::string& redis_url, const std::string& path) {
  redis::Options options = redis::parse_url(redis_url);
  options.password.clear();
  options.password_file = path;
  return redis::to_url(options);
}

}  // namespace alnair
