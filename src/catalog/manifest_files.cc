#include "catalog/manifest_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "alnair/core/error.h"
#include "alnair/core/hash.h"
#include "cache/private_directory.h"
#include "core/log.h"

namespace alnair {
namespace {

constexpr char kTemporaryPrefix[] = ".tmp-";
constexpr std::time_t kTemporaryAge = 3600;  // seconds

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

bool read_all(int fd, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::read(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

std::array<std::byte, 8> little_endian(std::uint64_t number) {
  std::array<std::byte, 8> bytes;
  for (std::byte& byte : bytes) {
    byte = static_cast<std::byte>(number);
    number >>= 8;
  }
  return bytes;
}

}  // namespace

std::string ManifestFiles::write(std::string_view version, std::span<const std::byte> blob) const {
  open_private_directory(directory_);
  std::string temporary = fmt::format("{}/{}{}-XXXXXX", directory_, kTemporaryPrefix, version.substr(0, 16));
  const Descriptor file(mkostemp(temporary.data(), O_CLOEXEC));
  const std::uint64_t checksum = checksum64(blob);
  if (file.get() < 0 || !write_all(file.get(), blob) || !write_all(file.get(), little_endian(checksum))) {
    const int error = errno;
    if (file.get() >= 0) unlink(temporary.c_str());
    throw CacheError(fmt::format("The manifest {} cannot be written into {}: {}.", version, directory_,
                                 std::strerror(error)));
  }
  return temporary;
}

void ManifestFiles::rename_in(const std::string& temporary, std::string_view version) const {
  if (std::rename(temporary.c_str(), path(version).c_str()) == 0) return;
  throw CacheError(fmt::format("The manifest {} cannot be renamed to {}: {}.", temporary, path(version),
                               std::strerror(errno)));
}

std::optional<std::vector<std::byte>> ManifestFiles::read(std::string_view version) const {
  const std::string name = path(version);
  const Descriptor file(open(name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0 && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
  struct stat status {};
  if (file.get() < 0 || fstat(file.get(), &status) != 0)
    throw CacheError(fmt::format("The manifest {} cannot be read: {}.", name, std::strerror(errno)));
  std::array<std::byte, 8> checksum;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (S_ISREG(status.st_mode) && size >= checksum.size()) {
    std::vector<std::byte> blob(size - checksum.size());
    if (read_all(file.get(), blob) && read_all(file.get(), checksum) &&
        little_endian(checksum64(blob)) == checksum)
      return blob;
  }
  log(LogLevel::kWarning, "the manifest {} is damaged and removed; its dataset is listed again", name);
  unlink(name.c_str());
  return std::nullopt;
}

void ManifestFiles::retain(const std::set<std::string>& versions) const {
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory_, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    struct stat status {};
    const bool temporary = name.starts_with(kTemporaryPrefix);
    if (temporary
            ? lstat(it->path().c_str(), &status) == 0 && status.st_mtime + kTemporaryAge < std::time(nullptr)
            : !versions.contains(name))
      unlink(it->path().c_str());
  }
}

}  // namespace alnair
