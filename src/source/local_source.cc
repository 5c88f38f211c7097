#include "alnair/source/local_source.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>
#include <utility>

#include "alnair/core/error.h"
#include "core/fork.h"
#include "source/prefixes.h"
#include "source/read_pool.h"

namespace alnair {
namespace {

constexpr int kMaxReadThreads = 8;
constexpr std::size_t kPageObjects = 1000;
constexpr std::uint64_t kReadBlock = 1 << 20;  // bytes between two looks at a cancellation

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

bool is_absent(int error) {  // what a key that names no file meets
  return error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG || error == ELOOP;
}

[[noreturn]] void throw_for(const std::string& path, int error) {
  const std::string text = fmt::format("Cannot read {}: {}.", path, std::strerror(error));
  if (error == EACCES || error == EPERM) throw AccessError(text);
  throw SourceError(text);
}

// Keys are paths, but not all paths are keys: each file has one, without empty, "." and ".." components.
bool can_be_key(std::string_view key) {
  while (true) {
    const std::size_t slash = key.find('/');
    const std::string_view component = key.substr(0, slash);
    if (component.empty() || component == "." || component == ".." ||
        component.find('\0') != std::string_view::npos)
      return false;
    if (slash == std::string_view::npos) return true;
    key.remove_prefix(slash + 1);
  }
}

// Changes whenever the file is written, so that a read can tell whether it still sees what was registered.
ObjectInfo object_info(std::string key, const struct stat& status) {
  ObjectInfo object;
  object.key = std::move(key);
  object.size = static_cast<std::uint64_t>(status.st_size);
  object.etag = fmt::format("{:x}-{:x}.{:09}", status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  object.last_modified_ms = std::int64_t{status.st_mtim.tv_sec} * 1000 + status.st_mtim.tv_nsec / 1'000'000;
  return object;
}

class LocalSource final : public ObjectSource {
 public:
  explicit LocalSource(std::string root)
      : root_(std::move(root)), pool_([] { return std::make_shared<ReadPool>(kMaxReadThreads); }) {}

  std::string identity() const override { return "file://" + root_; }

  void list(std::span<const std::string> prefixes, const std::function<void(std::vector<ObjectInfo>&&)>& page,
            const Interrupt& interrupt) override;
  std::vector<std::string> names_below(std::string_view prefix, std::size_t limit,
                                       const Interrupt& interrupt) override;
  std::optional<ObjectInfo> stat(std::string_view key, const Interrupt& interrupt) override;
  std::shared_ptr<PendingRead> read(ReadRequest request, ReadDone done) override;

 private:
  using Visit = std::function<void(const std::string& name, const struct stat& status)>;
  class Walk;

  std::string path_of(std::string_view key) const {
    return root_ == "/" ? fmt::format("/{}", key) : fmt::format("{}/{}", root_, key);
  }
  // The same path without symbolic links; nullopt: it leads nowhere. Throws AccessError when it leads out of
  // the root.
  std::optional<std::string> resolve(const std::string& path) const;
  // Without a descriptor: nothing there. Throws as resolve() does, and for other failures.
  FileDescriptor open_beneath(const std::string& path, int flags) const;
  // Visits the files and directories in `key_prefix` ("" or "a/") whose names start with `start`, in no
  // order.
  void visit_directory(const std::string& key_prefix, std::string_view start, const Visit& visit) const;
  View read_now(const ReadRequest& request, const std::atomic<bool>& cancelled) const;

  const std::string root_;  // canonical
  ForkLocal<ReadPool> pool_;
};

std::optional<std::string> LocalSource::resolve(const std::string& path) const {
  const std::unique_ptr<char, decltype(&std::free)> canonical(realpath(path.c_str(), nullptr), &std::free);
  if (canonical == nullptr) {
    if (is_absent(errno)) return std::nullopt;
    throw_for(path, errno);
  }
  const std::string result(canonical.get());
  if (root_ != "/" && result != root_ && !starts_with(result, root_ + "/"))
    throw AccessError(fmt::format(
        "{} is a symbolic link that leads out of {}; give its target as a source of its own.", path, root_));
  return result;
}

FileDescriptor LocalSource::open_beneath(const std::string& path, int flags) const {
  flags |= O_RDONLY | O_CLOEXEC;
  if ((flags & O_PATH) == 0) flags |= O_NONBLOCK;  // a named pipe must not hang us
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags);
  how.resolve = RESOLVE_NO_SYMLINKS;
  FileDescriptor file(static_cast<int>(syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how)));
  if (file) return file;
  if (errno == ELOOP || errno == ENOSYS || errno == EPERM) {  // symbolic links, or no openat2 here
    const auto resolved = resolve(path);
    if (!resolved) return FileDescriptor();
    FileDescriptor target(open(resolved->c_str(), flags | O_NOFOLLOW));
    if (target) return target;
  }
  if (is_absent(errno)) return FileDescriptor();
  throw_for(path, errno);
}

void LocalSource::visit_directory(const std::string& key_prefix, std::string_view start,
                                  const Visit& visit) const {
  const std::string path = path_of(key_prefix);
  FileDescriptor file = open_beneath(path, O_DIRECTORY);
  if (!file) return;  // gone, or no directory
  const Directory directory(fdopendir(file.get()));
  if (directory == nullptr) throw_for(path, errno);
  const int fd = file.release();  // the Directory's now

  while (true) {
    errno = 0;
    const dirent* item = readdir(directory.get());
    if (item == nullptr) break;
    const std::string name = item->d_name;
    if (name == "." || name == ".." || !starts_with(name, start)) continue;
    struct stat status {};
    if (fstatat(fd, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;  // gone meanwhile
    if (S_ISLNK(status.st_mode)) {
      const auto target = resolve(path + name);
      if (!target || ::stat(target->c_str(), &status) != 0) continue;  // leads nowhere
    }
    if (S_ISDIR(status.st_mode) || S_ISREG(status.st_mode)) visit(name, status);
  }
  if (errno != 0) throw_for(path, errno);
}

// Walks a subtree and hands out its files in pages.
class LocalSource::Walk {
 public:
  Walk(const LocalSource& source, const std::function<void(std::vector<ObjectInfo>&&)>& page,
       const Interrupt& interrupt)
      : source_(source), page_(page), interrupt_(interrupt) {}

  // Lists the files in and below `directory` ("" or "a/") whose path from there starts with `start`.
  void list(const std::string& directory, std::string_view start) {
    above_.clear();
    for (std::size_t end = 0; end != std::string::npos; end = directory.find('/', end + 1)) {
      struct stat status {};
      if (::stat(source_.path_of(directory.substr(0, end)).c_str(), &status) == 0)
        above_.insert({status.st_dev, status.st_ino});
    }
    list_in(directory, start);
  }

  void flush() {
    if (!objects_.empty()) page_(std::exchange(objects_, {}));
  }

 private:
  using Identity = std::pair<dev_t, ino_t>;

  void list_in(const std::string& directory, std::string_view start) {
    std::vector<std::pair<std::string, Identity>> below;
    source_.visit_directory(directory, start, [&](const std::string& name, const struct stat& status) {
      check_interrupt();
      if (S_ISDIR(status.st_mode)) {
        below.push_back({directory + name + "/", {status.st_dev, status.st_ino}});
      } else {
        objects_.push_back(object_info(directory + name, status));
        if (objects_.size() == kPageObjects) flush();
      }
    });
    for (const auto& [name, identity] : below) {
      if (!above_.insert(identity).second) continue;  // a symbolic link that leads back up
      list_in(name, "");
      above_.erase(identity);
    }
  }

  void check_interrupt() {
    const auto now = std::chrono::steady_clock::now();
    if (!interrupt_ || now - last_check_ < std::chrono::milliseconds(100)) return;
    last_check_ = now;
    interrupt_();
  }

  const LocalSource& source_;
  const std::function<void(std::vector<ObjectInfo>&&)>& page_;
  const Interrupt& interrupt_;
  std::vector<ObjectInfo> objects_;
  std::set<Identity> above_;  // the directories from the root to where the walk is
  std::chrono::steady_clock::time_point last_check_{};
};

// "a/b/im" -> "a/b/" and "im".
std::pair<std::string, std::string> split_prefix(std::string_view prefix) {
  const std::size_t slash = prefix.rfind('/');
  const std::size_t start = slash == std::string_view::npos ? 0 : slash + 1;
  return {std::string(prefix.substr(0, start)), std::string(prefix.substr(start))};
}

bool can_be_key_prefix(const std::string& directory) {
  return directory.empty() || can_be_key(std::string_view(directory).substr(0, directory.size() - 1));
}

void LocalSource::list(std::span<const std::string> prefixes,
                       const std::function<void(std::vector<ObjectInfo>&&)>& page,
                       const Interrupt& interrupt) {
  Walk walk(*this, page, interrupt);
  for (const std::string& prefix : disjoint_prefixes(prefixes)) {
    const auto [directory, start] = split_prefix(prefix);
    if (can_be_key_prefix(directory)) walk.list(directory, start);
  }
  walk.flush();
}

std::vector<std::string> LocalSource::names_below(std::string_view prefix, std::size_t limit,
                                                  const Interrupt& interrupt) {
  if (interrupt) interrupt();
  const auto [directory, start] = split_prefix(prefix);
  std::vector<std::string> names;
  if (!can_be_key_prefix(directory)) return names;
  visit_directory(directory, start, [&](const std::string& name, const struct stat& status) {
    names.push_back(directory + name + (S_ISDIR(status.st_mode) ? "/" : ""));
  });
  std::sort(names.begin(), names.end());
  if (names.size() > limit) names.resize(limit);
  return names;
}

std::optional<ObjectInfo> LocalSource::stat(std::string_view key, const Interrupt& interrupt) {
  if (interrupt) interrupt();
  if (!can_be_key(key)) return std::nullopt;
  const std::string path = path_of(key);
  const FileDescriptor file = open_beneath(path, O_PATH);
  struct stat status {};
  if (!file) return std::nullopt;
  if (fstat(file.get(), &status) != 0) throw_for(path, errno);
  if (!S_ISREG(status.st_mode)) return std::nullopt;
  return object_info(std::string(key), status);
}

View LocalSource::read_now(const ReadRequest& request, const std::atomic<bool>& cancelled) const {
  const std::string path = path_of(request.object.key);
  if (request.offset > request.object.size || request.length > request.object.size - request.offset)
    throw SourceError(fmt::format("Cannot read {} bytes at {} of {}, which has {} bytes.", request.length,
                                  request.offset, path, request.object.size));
  const auto check_version = [&](const FileDescriptor& file) {
    struct stat status {};
    if (fstat(file.get(), &status) != 0) throw_for(path, errno);
    if (!S_ISREG(status.st_mode) || !object_info("", status).same_version(request.object))
      throw ChangedError(
          fmt::format("{} has changed since it was registered; register the dataset again.", path));
  };
  const FileDescriptor file = can_be_key(request.object.key) ? open_beneath(path, 0) : FileDescriptor();
  if (!file) throw NotFoundError(fmt::format("{} has been deleted since it was registered.", path));
  check_version(file);
  Buffer buffer(request.length);
  for (std::uint64_t done = 0; done < request.length;) {
    if (cancelled) throw CancelledError("The read was cancelled.");
    const ssize_t count = pread(file.get(), buffer.data() + done, std::min(request.length - done, kReadBlock),
                                static_cast<off_t>(request.offset + done));
    if (count < 0 && errno != EINTR) throw_for(path, errno);
    if (count == 0)
      throw ChangedError(
          fmt::format("{} has shrunk since it was registered; register the dataset again.", path));
    if (count > 0) done += static_cast<std::uint64_t>(count);
  }
  check_version(file);  // written to while we read
  return std::move(buffer).freeze();
}

std::shared_ptr<PendingRead> LocalSource::read(ReadRequest request, ReadDone done) {
  return pool_.get()->submit([this, request = std::move(request)](
                                 const std::atomic<bool>& cancelled) { return read_now(request, cancelled); },
                             std::move(done));
}

}  // namespace

std::shared_ptr<ObjectSource> open_local_source(const std::string& root) {
  const std::unique_ptr<char, decltype(&std::free)> canonical(realpath(root.c_str(), nullptr), &std::free);
  struct stat status {};
  if (canonical == nullptr || ::stat(canonical.get(), &status) != 0) {
    if (is_absent(errno)) throw NotFoundError(fmt::format("The source directory {} does not exist.", root));
    throw_for(root, errno);
  }
  if (!S_ISDIR(status.st_mode)) throw NotFoundError(fmt::format("The source {} is no directory.", root));
  if (access(canonical.get(), R_OK | X_OK) != 0) throw_for(root, errno);
  return std::make_shared<LocalSource>(canonical.get());
}

}  // namespace alnair
