#include "cache/node_slots.h"

#include <array>
#include <atomic>
#include <utility>
#include <vector>

#include "alnair/core/error.h"
#include "cache/lock_file.h"
#include "cache/private_directory.h"
#include "core/fork.h"
#include "core/log.h"

namespace alnair {
namespace {

using Want = RequestSlots::Share::Want;

std::uint64_t wish_offset(Want what) {
  return lock_offset(LockPurpose::kRequestWish, static_cast<std::uint64_t>(what));
}

// What the shares of this process want: record locks show only what other processes do.
using Wishes = std::array<std::atomic<int>, 3>;
Wishes& wishes() {
  static auto* const local = new ForkLocal<Wishes>([] { return std::make_shared<Wishes>(); });
  return *local->get();
}

class NodeShare final : public RequestSlots::Share {
 public:
  explicit NodeShare(LockFile& locks) : locks_(locks) {}
  ~NodeShare() override {
    NodeShare::want(Want::kNothing);
    while (!slots_.empty()) NodeShare::give_back();
  }

  bool take(int limit) override {
    const auto count = static_cast<std::uint64_t>(limit);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t slot = (next_ + i) % count;
      if (!locks_.try_lock_exclusive(lock_offset(LockPurpose::kRequestSlot, slot))) continue;
      slots_.push_back(slot);
      next_ = slot + 1;
      return true;
    }
    return false;
  }

  void give_back() override {
    locks_.unlock(lock_offset(LockPurpose::kRequestSlot, slots_.back()));
    slots_.pop_back();
  }

  int held() const override { return static_cast<int>(slots_.size()); }

  void want(Want what) override {
    const Want before = std::exchange(wanted_, what);
    if (what != Want::kNothing && locks_.try_lock_shared(wish_offset(what))) ++wishes()[index(what)];
    if (before != Want::kNothing) {
      locks_.unlock(wish_offset(before));
      --wishes()[index(before)];
    }
  }

  Want others_want() const override {
    for (const Want what : {Want::kFirst, Want::kMore}) {
      const int of_this_process = wishes()[index(what)].load() - static_cast<int>(wanted_ == what);
      if (of_this_process > 0 || locks_.is_locked_by_other_process(wish_offset(what))) return what;
    }
    return Want::kNothing;
  }

 private:
  static std::size_t index(Want what) { return static_cast<std::size_t>(what); }

  LockFile& locks_;
  std::vector<std::uint64_t> slots_;
  std::uint64_t next_ = 0;  // where to look first
  Want wanted_ = Want::kNothing;
};

class NodeSlots final : public RequestSlots {
 public:
  explicit NodeSlots(std::string directory) : directory_(std::move(directory)) {}

  std::unique_ptr<Share> join() override {
    try {
      return std::make_unique<NodeShare>(LockFile::open(open_private_directory(directory_) + "/requests.lock"));
    } catch (const CacheError& error) {
      log(LogLevel::kWarning, "the limit of connections counts for this process alone: {}", error.what());
      return nullptr;
    }
  }

 private:
  const std::string directory_;
};

}  // namespace

std::shared_ptr<RequestSlots> node_request_slots(const std::string& memory_dir) {
  return std::make_shared<NodeSlots>(memory_dir);
}

}  // namespace alnair
