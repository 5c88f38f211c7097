// A mount of the tests' own that plays NFS (support/nfs/nfs_like.cc says what it can do), for as long as this object lives.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

namespace alnair::testing {

class NfsLike {
 public:
  // Shows `backing` at `mountpoint` (both are made). Null, with a line on stderr, where FUSE is not to be had: no root, no
  // /dev/fuse, or the program was not built. Only while the process has one thread: its mounts become its own.
  static std::unique_ptr<NfsLike> mount(const std::string& mountpoint, const std::string& backing);
  ~NfsLike();

  // Obeyed when this returns.
  void command(const std::string& line);

 private:
  NfsLike() = default;

  std::string mountpoint_;
  pid_t process_ = -1;
  int to_ = -1, from_ = -1;
};

}  // namespace alnair::testing
