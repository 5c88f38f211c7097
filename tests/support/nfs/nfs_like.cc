// A file system over FUSE that behaves as NFS does on a bad day, for the tests: everything in BACKING is seen at
// MOUNTPOINT; two mounts of one BACKING play two hosts.
//
//   alnair_test_nfs MOUNTPOINT BACKING
//
// A file that another mount has removed is ESTALE to who has it open. Commands come on stdin, one a line, and each is
// answered by "ok": "hang" (every call blocks), "error N" (every call fails with errno N; 0: no longer), "sync N" (fsync takes
// N ms), "hide N" (what others make is seen N ms later), "well" (none of these). The mount ends with stdin.
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <iostream>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <thread>

namespace {

std::string g_backing;
std::mutex g_mutex;
std::condition_variable g_changed;
bool g_hang = false;
std::set<std::string> g_ours;  // paths that were made through this mount: never hidden
std::atomic<int> g_error{0}, g_sync_ms{0}, g_hide_ms{0};

std::string backing(const char* path) { return g_backing + path; }
int result(int returned) { return returned < 0 ? -errno : returned; }

// Every call passes here first: 0, or what it fails with.
int gate() {
  std::unique_lock lock(g_mutex);
  g_changed.wait(lock, [] { return !g_hang; });
  return -g_error;
}

void note_ours(const char* path) {
  const std::lock_guard lock(g_mutex);
  g_ours.insert(path);
}

bool hidden(const std::string& path, const struct stat& info) {
  if (g_hide_ms == 0 || !S_ISREG(info.st_mode)) return false;
  {
    const std::lock_guard lock(g_mutex);
    if (g_ours.contains(path)) return false;
  }
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  const long long age_ms =
      (now.tv_sec - info.st_ctim.tv_sec) * 1000LL + (now.tv_nsec - info.st_ctim.tv_nsec) / 1'000'000;
  return age_ms < g_hide_ms;
}

int do_getattr(const char* path, struct stat* info, fuse_file_info* file) {
  if (const int error = gate(); error != 0) return error;
  if (file != nullptr) {
    if (::fstat(static_cast<int>(file->fh), info) < 0) return -errno;
    return info->st_nlink == 0 ? -ESTALE : 0;
  }
  if (::lstat(backing(path).c_str(), info) < 0) return -errno;
  return hidden(path, *info) ? -ENOENT : 0;
}

int do_readdir(const char* path, void* buffer, fuse_fill_dir_t fill, off_t, fuse_file_info*, fuse_readdir_flags) {
  if (const int error = gate(); error != 0) return error;
  DIR* directory = ::opendir(backing(path).c_str());
  if (directory == nullptr) return -errno;
  while (const dirent* entry = ::readdir(directory)) {
    struct stat info;
    if (::fstatat(::dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0) continue;
    const std::string whole = std::string(path) == "/" ? "/" + std::string(entry->d_name) : path + ("/" + std::string(entry->d_name));
    if (!hidden(whole, info)) fill(buffer, entry->d_name, nullptr, 0, static_cast<fuse_fill_dir_flags>(0));
  }
  ::closedir(directory);
  return 0;
}

int opened(int fd, fuse_file_info* file) {
  if (fd < 0) return -errno;
  file->fh = static_cast<std::uint64_t>(fd);
  file->direct_io = 1;
  return 0;
}

int do_open(const char* path, fuse_file_info* file) {
  struct stat info;
  if (const int error = do_getattr(path, &info, nullptr); error != 0) return error;
  return opened(::open(backing(path).c_str(), (file->flags & ~O_CREAT) | O_CLOEXEC), file);
}

int do_create(const char* path, mode_t mode, fuse_file_info* file) {
  if (const int error = gate(); error != 0) return error;
  note_ours(path);
  return opened(::open(backing(path).c_str(), file->flags | O_CREAT | O_CLOEXEC, mode), file);
}

int do_read(const char*, char* buffer, size_t size, off_t offset, fuse_file_info* file) {
  if (const int error = gate(); error != 0) return error;
  struct stat info;
  if (::fstat(static_cast<int>(file->fh), &info) == 0 && info.st_nlink == 0) return -ESTALE;
  return result(static_cast<int>(::pread(static_cast<int>(file->fh), buffer, size, offset)));
}

int do_write(const char*, const char* buffer, size_t size, off_t offset, fuse_file_info* file) {
  if (const int error = gate(); error != 0) return error;
  return result(static_cast<int>(::pwrite(static_cast<int>(file->fh), buffer, size, offset)));
}

int do_truncate(const char* path, off_t size, fuse_file_info* file) {
  if (const int error = gate(); error != 0) return error;
  return result(file != nullptr ? ::ftruncate(static_cast<int>(file->fh), size) : ::truncate(backing(path).c_str(), size));
}

int do_unlink(const char* path) {
  const int error = gate();
  return error != 0 ? error : result(::unlink(backing(path).c_str()));
}

int do_rename(const char* from, const char* to, unsigned) {
  if (const int error = gate(); error != 0) return error;
  note_ours(to);
  return result(::rename(backing(from).c_str(), backing(to).c_str()));
}

int do_link(const char* from, const char* to) {
  if (const int error = gate(); error != 0) return error;
  note_ours(to);
  return result(::link(backing(from).c_str(), backing(to).c_str()));
}

int do_mkdir(const char* path, mode_t mode) {
  const int error = gate();
  return error != 0 ? error : result(::mkdir(backing(path).c_str(), mode));
}

int do_chmod(const char* path, mode_t mode, fuse_file_info*) {
  const int error = gate();
  return error != 0 ? error : result(::chmod(backing(path).c_str(), mode));
}

int do_utimens(const char* path, const timespec times[2], fuse_file_info* file) {
  if (const int error = gate(); error != 0) return error;
  return result(file != nullptr ? ::futimens(static_cast<int>(file->fh), times)
                                : ::utimensat(AT_FDCWD, backing(path).c_str(), times, AT_SYMLINK_NOFOLLOW));
}

int do_fsync(const char*, int, fuse_file_info*) {
  const int error = gate();
  std::this_thread::sleep_for(std::chrono::milliseconds(g_sync_ms));
  return error;
}

int do_statfs(const char* path, struct statvfs* info) {
  const int error = gate();
  return error != 0 ? error : result(::statvfs(backing(path).c_str(), info));
}

int do_release(const char*, fuse_file_info* file) {
  ::close(static_cast<int>(file->fh));
  return 0;
}

void* do_init(fuse_conn_info*, fuse_config* config) {
  config->use_ino = 0;
  config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;  // the kernel remembers nothing
  config->hard_remove = 1;
  config->nullpath_ok = 0;
  return nullptr;
}

void obey(const std::string& line) {
  std::istringstream words(line);
  std::string command;
  int number = 0;
  words >> command >> number;
  const std::lock_guard lock(g_mutex);
  const bool well = command == "well";
  if (well || command == "hang") g_hang = command == "hang";
  if (well || command == "error") g_error = number;
  if (well || command == "sync") g_sync_ms = number;
  if (well || command == "hide") g_hide_ms = number;
  g_changed.notify_all();
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const char* mountpoint = arguments[1];
  g_backing = arguments[2];
  fuse_operations operations{};
  operations.getattr = do_getattr;
  operations.readdir = do_readdir;
  operations.open = do_open;
  operations.create = do_create;
  operations.read = do_read;
  operations.write = do_write;
  operations.truncate = do_truncate;
  operations.unlink = do_unlink;
  operations.rename = do_rename;
  operations.link = do_link;
  operations.mkdir = do_mkdir;
  operations.chmod = do_chmod;
  operations.utimens = do_utimens;
  operations.fsync = do_fsync;
  operations.fsyncdir = do_fsync;
  operations.statfs = do_statfs;
  operations.release = do_release;
  operations.init = do_init;

  char name[] = "alnair_test_nfs";
  char* fuse_arguments[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, fuse_arguments);
  fuse* session = fuse_new(&args, &operations, sizeof operations, nullptr);
  if (session == nullptr || fuse_mount(session, mountpoint) != 0) return 1;
  std::thread([session] {
    fuse_loop_mt(session, 0);
  }).detach();
  std::cout << "ok" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    obey(line);
    std::cout << "ok" << std::endl;
  }
  ::umount2(mountpoint, MNT_DETACH);
  ::_exit(0);
}
