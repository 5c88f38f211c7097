#include "manager/server/state_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "alnair/core/error.h"
#include "core/file.h"
#include "manager/identity/crypto.h"

namespace alnair::manager {
namespace {

[[noreturn]] void fail(const std::string& what, const std::string& path, const std::string& why) {
  throw ConfigError(fmt::format("the {} {}: {}", what, path, why));
}

// Under another name first: whoever finds the file finds all of it.
void make_file(const std::string& path, const std::string& what, const std::string& text) {
  const std::string temporary = path + "." + random_id();
  const FileDescriptor file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  const std::string line = text + "\n";
  if (!file || write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()) ||
      fsync(file.get()) != 0 || rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    unlink(temporary.c_str());
    fail(what, path, fmt::format("cannot be made: {}", std::strerror(error)));
  }
}

}  // namespace

std::string secret_file(const std::string& path, const std::string& what, const std::function<std::string()>& make) {
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) make_file(path, what, make());
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!file || fstat(file.get(), &status) != 0)
    fail(what, path, fmt::format("cannot be read: {}", std::strerror(errno)));
  if (!S_ISREG(status.st_mode)) fail(what, path, "is no plain file");
  if (status.st_uid != geteuid() && status.st_uid != 0)
    fail(what, path, fmt::format("belongs to user {}, not to this process's user {}", status.st_uid, geteuid()));
  if ((status.st_mode & 077) != 0)
    fail(what, path, fmt::format("has mode {:03o}; expected 600", status.st_mode & 0777));
  char buffer[4096];
  const ssize_t size = read(file.get(), buffer, sizeof buffer);
  std::string text(buffer, size > 0 ? static_cast<std::size_t>(size) : 0);
  text.resize(std::min(text.size(), text.find_first_of("\r\n")));
  if (text.empty()) fail(what, path, "is empty");
  return text;
}

}  // namespace alnair::manager
