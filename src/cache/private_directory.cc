#include "cache/private_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "alnair/core/error.h"

namespace alnair {

std::string open_private_directory(const std::string& path) {
  std::string name = path;
  while (name.size() > 1 && name.back() == '/') name.pop_back();  // "link/" would follow the link
  for (std::size_t slash = name.find('/', 1);; slash = name.find('/', slash + 1)) {
    const std::string part = name.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST && slash == std::string::npos)
      throw CacheError(fmt::format("cannot make the cache directory {}: {}", name, std::strerror(errno)));
    if (slash == std::string::npos) break;
  }
  const int fd = open(name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  struct stat status {};
  if (fd < 0) {
    const int error = errno;
    if (lstat(name.c_str(), &status) == 0 && S_ISLNK(status.st_mode))
      throw CacheError(
          fmt::format("the cache directory {} is a symbolic link; name the directory itself", name));
    if (lstat(name.c_str(), &status) == 0 && status.st_uid != geteuid())
      throw CacheError(fmt::format("the cache directory {} belongs to user {}, not to this process's user {}",
                                   name, status.st_uid, geteuid()));
    throw CacheError(fmt::format("cannot open the cache directory {}: {}", name, std::strerror(error)));
  }
  const bool known = fstat(fd, &status) == 0;
  const bool ours = known && status.st_uid == geteuid();
  if (ours && (status.st_mode & 0777) != 0700)
    fchmod(fd, 0700);  // fails on a read-only file system: no matter
  close(fd);
  if (!ours)
    throw CacheError(fmt::format("the cache directory {} belongs to user {}, not to this process's user {}",
                                 name, status.st_uid, geteuid()));
  return name;
}

}  // namespace alnair
