#include "dataset/run_record.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "alnair/core/hash.h"
#include "core/log.h"
#include "dataset/shared_file.h"

namespace alnair {
namespace {

constexpr char kFilePrefix[] = "run-";
constexpr std::size_t kKeptFiles = 256;
constexpr std::size_t kVersionSize = 64;  // hex
constexpr auto kPoll = std::chrono::milliseconds(20);
constexpr auto kPatience = std::chrono::minutes(30);  // longer than any listing; a stopped process may hold the lock

}  // namespace

RunRecord::RunRecord(const Node& node, const std::string& run, const std::string& dataset)
    : locks_(node.locks), directory_(node.share_directory) {
  Hasher hasher;
  hasher.update_field(run);
  hasher.update_field(dataset);
  const ContentHash hash = hasher.finish();
  name_ = kFilePrefix + hash.hex();
  lock_ = lock_offset(LockPurpose::kRegistration, first64(hash));
}

std::string RunRecord::version() const {
  const Mapping mapping = map_shared_file(directory_, name_, Access::kRead);
  if (!mapping) return {};
  const auto bytes = mapping.bytes();
  std::string version(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), kVersionSize));
  if (bytes.size() == kVersionSize && ContentHash::from_hex(version)) return version;
  remove_shared_file(directory_, name_);
  return {};
}

LockFile::Guard RunRecord::wait_for_turn(const Interrupt& interrupt) const {
  if (locks_ == nullptr || directory_.empty()) return {};
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    if (auto guard = locks_->try_exclusive(lock_)) return guard;
    std::this_thread::sleep_for(kPoll);
    if (interrupt) interrupt();
  }
  log(LogLevel::kWarning, "another process of this run has been listing for {} minutes; not waiting for it any longer",
      kPatience.count());
  return {};
}

void RunRecord::write(const std::string& version) const {
  auto draft = SharedFileDraft::begin(directory_, version.size());
  if (!draft) return;
  std::transform(version.begin(), version.end(), draft->bytes().begin(), [](char c) { return static_cast<std::byte>(c); });
  if (draft->publish(name_)) trim_shared_files(directory_, kFilePrefix, kKeptFiles);
}

}  // namespace alnair
