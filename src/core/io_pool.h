// Threads for calls that may never return.
//
// A file system that hangs (NFS without its server) blocks whoever calls it, and no signal or timeout gets
// the thread back. So such calls are made here: when one has run for longer than the stall limit, everything
// that waits on the pool is told so at once (finish(false)), and new tasks are turned away until the calls
// that hang have returned. A hung file system thus costs its users one bounded wait, and comes back by
// itself.
//
// Threads start when there is work, and never outlive the process's interest: the destructor waits for them
// only while they make progress. Thread-safe. Not usable in a forked child of the process that made it
// (submit says no).
#pragma once

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace alnair {

class IoTask {
 public:
  virtual ~IoTask() = default;
  // Makes the calls that may block. It touches only what the task owns or shares, for it may be running still
  // when the caller has long gone.
  virtual void run() noexcept = 0;
  // Called exactly once. true: run() has returned. false: it never began, or hangs (and may be running at
  // this moment).
  virtual void finish(bool completed) noexcept = 0;
};

class IoPool {
 public:
  struct Options {
    std::size_t threads = 8;
    std::chrono::milliseconds stall_limit{10'000};  // how long one task may run
    std::function<void()> on_stall;                 // from a thread of the pool, once for each stall
  };
  explicit IoPool(Options options);
  IoPool(const IoPool&) = delete;
  IoPool& operator=(const IoPool&) = delete;
  ~IoPool() { close(); }

  // Finishes what was submitted, and ends the threads; gives up on them when the pool stalls. On a thread of
  // the pool itself it does not wait.
  void close();

  // false: the pool is stalled (or closed, or inherited by fork), and the tasks will never run or be
  // finished.
  bool submit(std::span<const std::shared_ptr<IoTask>> tasks);
  bool submit(std::shared_ptr<IoTask> task) { return submit({&task, 1}); }

  bool stalled() const;

  // A task that makes many calls says so between them: each, not all of them together, is held to the stall
  // limit.
  static void note_progress();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Runs `body` on the pool and waits for it. false: the pool is stalled, and the body has not run or runs
// still (so it must own all that it touches). It must not throw.
bool run_and_wait(IoPool& pool, std::function<void()> body);

// What `body` returns, or throws. nullopt: as false above.
template <typename T>
std::optional<T> answer_of(IoPool& pool, std::function<T()> body) {
  struct Answer {
    std::optional<T> value;
    std::exception_ptr error;
  };
  const auto answer = std::make_shared<Answer>();
  const bool completed = run_and_wait(pool, [answer, body = std::move(body)] {
    try {
      answer->value.emplace(body());
    } catch (...) {
      answer->error = std::current_exception();
    }
  });
  if (!completed) return std::nullopt;
  if (answer->error) std::rethrow_exception(answer->error);
  return std::move(answer->value);
}

}  // namespace alnair
