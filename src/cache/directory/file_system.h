// The calls that a directory tier makes to a file system, as one seam: what is here is the real thing, and
// tests derive from it to fail, hang, or kill the process at any chosen call.
//
// Results: a value >= 0, or -errno. Any call may block for as long as the file system likes; only threads of
// an IoPool make them. Thread-safe, like the system calls.
#pragma once

#include <errno.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace alnair {

struct FileInfo {
  std::string name;
  std::uint64_t bytes =
      0;  // what it takes: its blocks, or its size where that is larger (not written out yet)
  std::int64_t modified_ns = 0;  // since 1970, by the file system's clock
};

struct DiskSpace {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  // to this user
};

// Whether an error says that a file is not there (any more): ESTALE is how NFS tells that another host removed it.
constexpr bool is_gone(std::int64_t error) { return error == -ENOENT || error == -ESTALE; }

class FileSystem {
 public:
  // `mode` is what directories are made with, whatever the umask; files get its read and write bits.
  explicit FileSystem(std::uint32_t mode = 0700) : mode_(mode) {}
  virtual ~FileSystem() = default;

  virtual int open(const std::string& path, int flags);  // O_CLOEXEC and O_NOFOLLOW are added
  virtual bool is_local(const std::string& path);        // on a file system that is known to be this host's
  virtual void close(int fd);
  // Reads until the pieces are full or the file ends, and returns the bytes read.
  virtual std::int64_t read(int fd, std::span<const iovec> pieces, std::uint64_t offset);
  // Writes all the pieces.
  virtual int write(int fd, std::span<const iovec> pieces, std::uint64_t offset);
  virtual int truncate(int fd, std::uint64_t size);
  virtual std::int64_t size(int fd);
  virtual int sync(int fd);
  virtual int rename(const std::string& from, const std::string& to);
  virtual int touch(const std::string& path);  // its time of change becomes now, by the file system's clock
  virtual int link(const std::string& from, const std::string& to);  // fails if `to` is there
  virtual int remove(const std::string& path);
  virtual int make_directory(const std::string& path);  // not its parent; one that exists is success
  // The regular files of a directory, in no order.
  virtual int list(const std::string& path, std::vector<FileInfo>& files);
  // When the directory's entries last changed, in ns since 1970, by the file system's clock. Asks a network file system's
  // server, not what this host remembers.
  virtual std::int64_t modified(const std::string& path);
  virtual int space(const std::string& path, DiskSpace& space);

 private:
  const std::uint32_t mode_;
};

// An open descriptor, closed with its last owner.
class File {
 public:
  File(std::shared_ptr<FileSystem> files, int fd) : files_(std::move(files)), fd_(fd) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { files_->close(fd_); }

  int fd() const { return fd_; }
  FileSystem& files() const { return *files_; }

 private:
  std::shared_ptr<FileSystem> files_;
  int fd_;
};

}  // namespace alnair
