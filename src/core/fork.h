// Forked children start clean (design.md, invariant 6).
//
// A child inherits the memory of its parent's threads and locks, but not the threads. So whatever owns a thread,
// socket, lock or database handle lives in a ForkLocal: the child abandons (never destroys) what it inherited, and makes
// its own at first use.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

namespace alnair {

// Counts the forks between the first process and this one; changes in the child only. Async-signal-safe to read.
std::uint64_t fork_generation();

// Holds a T made at first use by each process. Thread-safe.
template <typename T>
class ForkLocal {
 public:
  explicit ForkLocal(std::function<std::shared_ptr<T>()> make) : make_(std::move(make)) {}
  ForkLocal(const ForkLocal&) = delete;
  ForkLocal& operator=(const ForkLocal&) = delete;
  ~ForkLocal() {
    Slot* slot = slot_.load();
    if (slot != nullptr && slot->generation == fork_generation()) delete slot;
  }

  std::shared_ptr<T> get() {
    Slot* slot = slot_.load(std::memory_order_acquire);
    if (slot != nullptr && slot->generation == fork_generation()) return slot->value;
    // The parent's slot is abandoned, never destroyed. No mutex here: one could be held by a thread that does not exist
    // in the child. Two threads may both make a T; one wins.
    auto fresh = std::make_unique<Slot>(Slot{fork_generation(), make_(), slot});
    if (slot_.compare_exchange_strong(slot, fresh.get(), std::memory_order_acq_rel)) return fresh.release()->value;
    return slot->value;
  }

  // The T of this process if it has been made; never makes one.
  std::shared_ptr<T> peek() const {
    Slot* slot = slot_.load(std::memory_order_acquire);
    return slot != nullptr && slot->generation == fork_generation() ? slot->value : nullptr;
  }

 private:
  struct Slot {
    std::uint64_t generation;
    std::shared_ptr<T> value;
    const Slot* abandoned;  // the parent's
  };
  std::function<std::shared_ptr<T>()> make_;
  std::atomic<Slot*> slot_{nullptr};
};

}  // namespace alnair
