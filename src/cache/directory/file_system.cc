#include "cache/directory/file_system.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "core/host.h"

namespace alnair {
namespace {

int result(int returned) { return returned < 0 ? -errno : returned; }

std::int64_t nanoseconds(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Moves all the pieces, in as many calls as it takes. Returns the bytes moved: fewer than asked when `call`
// returns 0.
template <typename Call>
std::int64_t transfer(std::span<const iovec> pieces, std::uint64_t offset, Call call) {
  std::vector<iovec> rest(pieces.begin(), pieces.end());
  std::size_t next = 0;
  std::int64_t total = 0;
  while (next < rest.size()) {
    const int count = static_cast<int>(std::min<std::size_t>(rest.size() - next, IOV_MAX));
    ssize_t moved = call(rest.data() + next, count, static_cast<off_t>(offset + total));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return -errno;
    if (moved == 0 && rest[next].iov_len != 0) break;
    total += moved;
    while (next < rest.size() && static_cast<std::size_t>(moved) >= rest[next].iov_len)
      moved -= rest[next++].iov_len;
    if (moved > 0) {
      rest[next].iov_base = static_cast<char*>(rest[next].iov_base) + moved;
      rest[next].iov_len -= moved;
    }
  }
  return total;
}

}  // namespace

int FileSystem::open(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode_ & 0666);
  const int opened = result(fd);
  if (fd >= 0 && (flags & O_CREAT) != 0 && (mode_ & 0077) != 0)
    (void)!::fchmod(fd, mode_ & 0666);  // the umask may have taken bits; not ours to change: no matter
  return opened;
}

bool FileSystem::is_local(const std::string& path) { return is_local_file_system(path); }

void FileSystem::close(int fd) { ::close(fd); }

std::int64_t FileSystem::read(int fd, std::span<const iovec> pieces, std::uint64_t offset) {
  return transfer(pieces, offset, [fd](iovec* part, int n, off_t at) { return ::preadv(fd, part, n, at); });
}

int FileSystem::write(int fd, std::span<const iovec> pieces, std::uint64_t offset) {
  std::uint64_t wanted = 0;
  for (const iovec& piece : pieces) wanted += piece.iov_len;
  const std::int64_t written =
      transfer(pieces, offset, [fd](iovec* part, int n, off_t at) { return ::pwritev(fd, part, n, at); });
  if (written < 0) return static_cast<int>(written);
  return static_cast<std::uint64_t>(written) == wanted ? 0 : -EIO;
}

int FileSystem::truncate(int fd, std::uint64_t size) {
  return result(::ftruncate(fd, static_cast<off_t>(size)));
}

std::int64_t FileSystem::size(int fd) {
  struct stat info;
  return ::fstat(fd, &info) < 0 ? -errno : info.st_size;
}

int FileSystem::sync(int fd) { return result(::fsync(fd)); }

int FileSystem::rename(const std::string& from, const std::string& to) {
  return result(::rename(from.c_str(), to.c_str()));
}

int FileSystem::touch(const std::string& path) { return result(::utimensat(AT_FDCWD, path.c_str(), nullptr, 0)); }

int FileSystem::link(const std::string& from, const std::string& to) {
  return result(::link(from.c_str(), to.c_str()));
}

int FileSystem::remove(const std::string& path) { return result(::unlink(path.c_str())); }

int FileSystem::make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), mode_ & 0777) < 0) return errno == EEXIST ? 0 : -errno;
  return mode_ == 0700 ? 0 : result(::chmod(path.c_str(), mode_));
}

int FileSystem::list(const std::string& path, std::vector<FileInfo>& files) {
  std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (directory == nullptr) return -errno;
  files.clear();
  for (errno = 0; const dirent* entry = ::readdir(directory.get()); errno = 0) {
    struct stat info;
    if (::fstatat(::dirfd(directory.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0)
      continue;  // just gone
    if (!S_ISREG(info.st_mode)) continue;
    const std::uint64_t blocks = static_cast<std::uint64_t>(info.st_blocks) * 512;
    files.push_back({entry->d_name, std::max(blocks, static_cast<std::uint64_t>(info.st_size)),
                     nanoseconds(info.st_mtim)});
  }
  return -errno;
}

std::int64_t FileSystem::modified(const std::string& path) {
  const int directory = result(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory < 0) return directory;
  struct stat info;
  const std::int64_t modified = ::fstat(directory, &info) < 0 ? -errno : nanoseconds(info.st_mtim);
  ::close(directory);
  return modified;
}

int FileSystem::space(const std::string& path, DiskSpace& space) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) < 0) return -errno;
  space.total_bytes = static_cast<std::uint64_t>(info.f_blocks) * info.f_frsize;
  space.free_bytes = static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  return 0;
}

}  // namespace alnair
