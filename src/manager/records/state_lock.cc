#include "manager/records/state_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "alnair/core/error.h"

namespace alnair::manager {

FileDescriptor lock_state(const std::string& directory, const Patience& patience) {
  const std::string path = directory + "/manager.lock";
  FileDescriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) throw CacheError(fmt::format("The manager's lock {} cannot be opened: {}.", path, std::strerror(errno)));
  while (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR)
      throw CacheError(fmt::format("The manager's lock {} cannot be taken: {}.", path, std::strerror(errno)));
    if (!patience || !patience())
      throw CacheError(fmt::format(
          "Another manager uses this state directory: it holds {}. With standby = true this one would wait.", path));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return file;
}

}  // namespace alnair::manager
