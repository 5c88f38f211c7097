// A file system whose every call first asks a hook, which may fail it, hang it, or kill the process there.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "cache/directory/file_system.h"

namespace alnair::testing {

class HookedFileSystem : public FileSystem {
 public:
  // Returns 0 to go on, or -errno to fail with. `path` is empty for calls on a descriptor. Called from many
  // threads.
  using Hook = std::function<int(std::string_view call, const std::string& path)>;
  explicit HookedFileSystem(Hook hook) : hook_(std::move(hook)) {}

  int open(const std::string& path, int flags) override {
    const int error = hook_("open", path);
    return error != 0 ? error : FileSystem::open(path, flags);
  }
  std::int64_t read(int fd, std::span<const iovec> pieces, std::uint64_t offset) override {
    const int error = hook_("read", "");
    return error != 0 ? error : FileSystem::read(fd, pieces, offset);
  }
  int write(int fd, std::span<const iovec> pieces, std::uint64_t offset) override {
    const int error = hook_("write", "");
    return error != 0 ? error : FileSystem::write(fd, pieces, offset);
  }
  int truncate(int fd, std::uint64_t size) override {
    const int error = hook_("truncate", "");
    return error != 0 ? error : FileSystem::truncate(fd, size);
  }
  int sync(int fd) override {
    const int error = hook_("sync", "");
    return error != 0 ? error : FileSystem::sync(fd);
  }
  int rename(const std::string& from, const std::string& to) override {
    const int error = hook_("rename", from);
    return error != 0 ? error : FileSystem::rename(from, to);
  }
  int touch(const std::string& path) override {
    const int error = hook_("touch", path);
    return error != 0 ? error : FileSystem::touch(path);
  }
  int remove(const std::string& path) override {
    const int error = hook_("remove", path);
    return error != 0 ? error : FileSystem::remove(path);
  }
  int make_directory(const std::string& path) override {
    const int error = hook_("make_directory", path);
    return error != 0 ? error : FileSystem::make_directory(path);
  }
  int list(const std::string& path, std::vector<FileInfo>& files) override {
    const int error = hook_("list", path);
    return error != 0 ? error : FileSystem::list(path, files);
  }
  std::int64_t modified(const std::string& path) override {
    const int error = hook_("modified", path);
    return error != 0 ? error : FileSystem::modified(path);
  }
  int space(const std::string& path, DiskSpace& space) override {
    const int error = hook_("space", path);
    return error != 0 ? error : FileSystem::space(path, space);
  }

 private:
  const Hook hook_;
};

}  // namespace alnair::testing
