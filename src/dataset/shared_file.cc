#include "dataset/shared_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <vector>

namespace alnair {
namespace {

constexpr char kTemporaryPrefix[] = ".draft-";
constexpr std::time_t kTemporaryAge =
    60;  // seconds; a draft this old is a killed process's, or may fail harmlessly

Mapping map_file(int fd, std::uint64_t size, Access access) {
  const int protection = access == Access::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  void* memory = mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return {};
  return Mapping({static_cast<std::byte*>(memory), size});
}

struct DirectoryFile {
  std::string name;
  struct timespec used;
};

std::vector<DirectoryFile> files_with_prefix(const std::string& directory, const std::string& prefix) {
  std::vector<DirectoryFile> files;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    struct stat status {};
    if (name.starts_with(prefix) && lstat(it->path().c_str(), &status) == 0)
      files.push_back({name, status.st_mtim});
  }
  return files;
}

void remove_old_drafts(const std::string& directory) {
  for (const auto& file : files_with_prefix(directory, kTemporaryPrefix))
    if (file.used.tv_sec + kTemporaryAge < std::time(nullptr)) remove_shared_file(directory, file.name);
}

}  // namespace

Mapping::~Mapping() {
  if (bytes_.data() != nullptr) munmap(bytes_.data(), bytes_.size());
}

Mapping map_private_memory(std::uint64_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return {};
  return Mapping({static_cast<std::byte*>(memory), size});
}

Mapping map_shared_file(const std::string& directory, const std::string& name, Access access) {
  if (directory.empty()) return {};
  const std::string path = directory + "/" + name;
  const int flags = (access == Access::kRead ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
  const int fd = open(path.c_str(), flags);
  if (fd < 0) {
    if (errno == ELOOP) remove_shared_file(directory, name);
    return {};
  }
  Mapping mapping;
  struct stat status {};
  if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
      status.st_size > 0 && status.st_blocks * 512 >= status.st_size) {
    mapping = map_file(fd, static_cast<std::uint64_t>(status.st_size), access);
    futimens(fd, nullptr);
  } else {
    remove_shared_file(directory, name);
  }
  close(fd);
  return mapping;
}

SharedFileDraft::SharedFileDraft(SharedFileDraft&& other) noexcept
    : directory_(std::move(other.directory_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)),
      mapping_(std::move(other.mapping_)) {}

SharedFileDraft::~SharedFileDraft() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

std::optional<SharedFileDraft> SharedFileDraft::begin(const std::string& directory, std::uint64_t size) {
  struct statvfs space {};
  if (directory.empty() || statvfs(directory.c_str(), &space) != 0) return std::nullopt;
  if (size / space.f_frsize >= space.f_bavail / 4) return std::nullopt;

  SharedFileDraft draft;
  draft.directory_ = directory;
  draft.fd_ = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (draft.fd_ < 0) {
    remove_old_drafts(directory);
    std::string path = fmt::format("{}/{}XXXXXX", directory, kTemporaryPrefix);
    draft.fd_ = mkostemp(path.data(), O_CLOEXEC);
    if (draft.fd_ < 0) return std::nullopt;
    draft.temporary_ = path;
  }
  if (posix_fallocate(draft.fd_, 0, static_cast<off_t>(size)) != 0) return std::nullopt;
  draft.mapping_ = map_file(draft.fd_, size, Access::kReadWrite);
  if (!draft.mapping_) return std::nullopt;
  return draft;
}

bool SharedFileDraft::publish(const std::string& name) {
  const std::string path = directory_ + "/" + name;
  const std::string unnamed = fmt::format("/proc/self/fd/{}", fd_);
  // link, not rename: the first process wins, and later ones map its file.
  return temporary_.empty()
             ? linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0
             : link(temporary_.c_str(), path.c_str()) == 0;
}

void remove_shared_file(const std::string& directory, const std::string& name) {
  unlink((directory + "/" + name).c_str());
}

void trim_shared_files(const std::string& directory, const std::string& prefix, std::size_t keep) {
  auto files = files_with_prefix(directory, prefix);
  if (files.size() <= keep) return;
  std::ranges::sort(files, [](const DirectoryFile& a, const DirectoryFile& b) {
    return std::pair(a.used.tv_sec, a.used.tv_nsec) > std::pair(b.used.tv_sec, b.used.tv_nsec);
  });
  for (std::size_t i = keep; i < files.size(); ++i) remove_shared_file(directory, files[i].name);
}

}  // namespace alnair
