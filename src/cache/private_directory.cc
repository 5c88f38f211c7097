#include "cache/private_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "alnair/core/error.h"

namespace alnair {

namespace {

std::string without_trailing_slashes(std::string path) {  // "link/" would follow the link
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

void refuse_foreign(const std::string& name, const struct stat& status) {
  if (S_ISLNK(status.st_mode))
    throw CacheError(fmt::format("the cache directory {} is a symbolic link; name the directory itself", name));
  if (!S_ISDIR(status.st_mode)) throw CacheError(fmt::format("the cache directory {} is not a directory", name));
  if (status.st_uid != geteuid())
    throw CacheError(fmt::format("the cache directory {} belongs to user {}, not to this process's user {}", name,
                                 status.st_uid, geteuid()));
}

}  // namespace

void refuse_foreign_directory(const std::string& path) {
  const std::string name = without_trailing_slashes(path);
  struct stat status {};
  if (lstat(name.c_str(), &status) == 0) refuse_foreign(name, status);
}

std::string open_private_directory(const std::string& path) {
  const std::string name = without_trailing_slashes(path);
  for (std::size_t slash = name.find('/', 1);; slash = name.find('/', slash + 1)) {
    const std::string part = name.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST && slash == std::string::npos)
      throw CacheError(fmt::format("cannot make the cache directory {}: {}", name, std::strerror(errno)));
    if (slash == std::string::npos) break;
  }
  const int fd = open(name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    const int error = errno;
    refuse_foreign_directory(name);
    throw CacheError(fmt::format("cannot open the cache directory {}: {}", name, std::strerror(error)));
  }
  struct stat status {};
  const bool known = fstat(fd, &status) == 0;
  if (known && status.st_uid == geteuid() && (status.st_mode & 0777) != 0700)
    fchmod(fd, 0700);  // fails on a read-only file system: no matter
  close(fd);
  if (!known) throw CacheError(fmt::format("cannot examine the cache directory {}", name));
  refuse_foreign(name, status);
  return name;
}

}  // namespace alnair
