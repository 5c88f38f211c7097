#include "support/nfs_like.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <stdexcept>

namespace alnair::testing {
namespace {

bool read_ok(int fd) {
  char answer[3];
  for (std::size_t got = 0; got < sizeof answer;) {
    const ssize_t more = ::read(fd, answer + got, sizeof answer - got);
    if (more <= 0) return false;
    got += static_cast<std::size_t>(more);
  }
  return std::string_view(answer, sizeof answer) == "ok\n";
}

std::unique_ptr<NfsLike> none(const char* why) {
  std::fprintf(stderr, "no file system of the tests: %s\n", why);
  return nullptr;
}

}  // namespace

std::unique_ptr<NfsLike> NfsLike::mount(const std::string& mountpoint, const std::string& backing) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "alnair_test_nfs";
  if (::access(program.c_str(), X_OK) != 0) return none("it was not built (needs libfuse3-dev)");
  if (::access("/dev/fuse", R_OK | W_OK) != 0) return none("no access to /dev/fuse");
  // Mounts of a namespace that ends with this process: a test that is killed leaves none.
  static const bool own_mounts =
      ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  if (!own_mounts) return none("may not make mounts");
  std::filesystem::create_directories(mountpoint);
  std::filesystem::create_directories(backing);

  int to[2], from[2];
  if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  std::unique_ptr<NfsLike> nfs(new NfsLike());
  nfs->mountpoint_ = mountpoint;
  nfs->process_ = ::fork();
  if (nfs->process_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(to[0], 0);
    ::dup2(from[1], 1);
    ::execl(program.c_str(), program.c_str(), mountpoint.c_str(), backing.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(to[0]);
  ::close(from[1]);
  nfs->to_ = to[1];
  nfs->from_ = from[0];
  return read_ok(nfs->from_) ? std::move(nfs) : none("it did not start");
}

NfsLike::~NfsLike() {
  ::close(to_);  // it ends
  ::close(from_);
  ::waitpid(process_, nullptr, 0);
  ::umount2(mountpoint_.c_str(), MNT_DETACH);  // if it was killed
}

void NfsLike::command(const std::string& line) {
  const std::string whole = line + "\n";
  if (::write(to_, whole.data(), whole.size()) != static_cast<ssize_t>(whole.size()) || !read_ok(from_))
    throw std::runtime_error("the file system of the tests is gone");
}

}  // namespace alnair::testing
