#include "cache/directory/directory_opening.h"

#include <errno.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "alnair/core/error.h"
#include "cache/private_directory.h"
#include "core/io_pool.h"
#include "core/log.h"

namespace alnair {
namespace {

constexpr std::uint32_t kManySegments = 1u << 16, kFewSegments = 1u << 13;  // 4 MiB, 512 KiB of table

int make_shared_directories(const DirectoryOptions& options, const std::string& folder) {
  struct stat info;
  if (::stat(options.root.c_str(), &info) == 0 && !S_ISDIR(info.st_mode))
    throw ConfigError(fmt::format("{}: {} is not a directory", options.name, options.root));
  int error = options.files->make_directory(options.root);
  if (error == -ENOENT || error == -ENOTDIR)
    throw ConfigError(fmt::format("{}: there is no directory {}, nor one to make it in; is its file system mounted?",
                                  options.name, options.root));
  for (std::size_t slash = options.root.size(); error >= 0 && slash != std::string::npos;) {
    slash = folder.find('/', slash + 1);
    error = options.files->make_directory(folder.substr(0, slash));
  }
  return error;
}

// Makes the directory and its folder for this format, as far as they are missing. Returns 0 or the -errno;
// throws CacheError if this user must not use it.
int make_directories(const DirectoryOptions& options, const std::string& folder) {
  if (!options.root.empty()) return make_shared_directories(options, folder);
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(options.directory).parent_path(), ignored);
  const int error = options.files->make_directory(options.directory);
  struct stat info;
  if (::lstat(options.directory.c_str(), &info) < 0) return error;
  open_private_directory(options.directory);
  return options.files->make_directory(folder);
}

}  // namespace

// On a thread that goes again at once.
void open_directory(const DirectoryOptions& options, SegmentFiles& files) {
  struct Outcome {
    std::exception_ptr refusal;
    int error = 0;
  };
  auto outcome = std::make_shared<Outcome>();
  IoPool opening({1, options.stall_limit, nullptr});
  const bool answered = run_and_wait(opening, [outcome, options, folder = files.directory()] {
    try {
      outcome->error = make_directories(options, folder);
    } catch (...) {
      outcome->refusal = std::current_exception();
    }
  });
  if (answered && outcome->refusal) std::rethrow_exception(outcome->refusal);
  const int error = answered ? outcome->error : -ETIMEDOUT;
  if (error < 0) files.fault(error, "make", "");
}

std::unique_ptr<DirectoryShare> make_share(const DirectoryOptions& options) {
  if (!options.node_directory.empty()) {
    try {
      return std::make_unique<DirectoryShare>(open_private_directory(options.node_directory),
                                              options.directory);
    } catch (const CacheError& error) {
      log(LogLevel::kWarning, "{} tier: this process shares nothing with others: {}", options.name,
          error.what());
    }
  }
  return std::make_unique<DirectoryShare>();
}

std::unique_ptr<DirectoryIndex> make_index(const DirectoryOptions& options, const DirectoryShare& share) {
  if (share.shared()) {
    try {
      DiskSpace memory;
      FileSystem().space(options.node_directory, memory);
      const std::uint64_t max_bytes =
          std::clamp<std::uint64_t>(memory.total_bytes / 16, 2u << 20, 512u << 20);
      const std::uint32_t slots = memory.total_bytes < (1u << 30) ? kFewSegments : kManySegments;
      return std::make_unique<DirectoryIndex>(share, slots, max_bytes);
    } catch (const CacheError& error) {
      log(LogLevel::kWarning, "{} tier: the index is not shared with other processes: {}", options.name,
          error.what());
    }
  }
  return std::make_unique<DirectoryIndex>(kManySegments);
}

void adopt_limits(DirectoryOptions& options, const DirectoryShare& share, SegmentTable::Shared& recorded) {
  if (share.in_use()) {
    options.limit_bytes = recorded.limit_bytes;
    options.eviction = static_cast<EvictionPolicy>(recorded.policy.load());
  } else {
    recorded.limit_bytes = options.limit_bytes;
    recorded.policy = static_cast<std::uint64_t>(options.eviction);
  }
  if (options.tend_after.count() == 0)
    options.tend_after = std::clamp<std::chrono::milliseconds>(options.durability / 4, std::chrono::seconds(30), std::chrono::minutes(5));
  if (options.segment_bytes == 0) {
    // Open segments count with their full size: a small limit wants small ones.
    const std::uint64_t share_of_limit =
        options.limit_bytes == 0 ? kMaxSegmentFileBytes : options.limit_bytes / 32;
    options.segment_bytes = std::clamp<std::uint64_t>(share_of_limit, 256u << 10, kMaxSegmentFileBytes);
  }
}

}  // namespace alnair
