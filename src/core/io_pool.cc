#include "core/io_pool.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/block_signals.h"
#include "core/fork.h"

namespace alnair {

using Clock = std::chrono::steady_clock;

// Shared by the pool and its threads, which are detached: one that hangs keeps this alive, and nothing else.
struct IoPool::State : std::enable_shared_from_this<IoPool::State> {
  struct Running {
    std::shared_ptr<IoTask> task;
    Clock::time_point since;
    bool abandoned = false;
  };

  explicit State(Options from) : options(std::move(from)) {}

  static thread_local State* current_pool;       // whose thread this is
  static thread_local Running* current_running;  // what it is at

  const Options options;
  const std::uint64_t generation = fork_generation();
  mutable std::mutex mutex;
  std::condition_variable work, watch, ended;
  std::deque<std::shared_ptr<IoTask>> queue;
  std::vector<Running*> running;
  std::size_t threads = 0;  // workers alive
  std::size_t hanging = 0;  // tasks that were abandoned and have not returned
  bool watching = false;    // the watchdog is alive
  bool watch_idle = false;  // and waits for something to watch
  bool stopping = false;

  template <typename Body>
  bool start_thread(Body body) {
    const BlockSignals blocked;
    bool started = true;
    try {
      std::thread([self = shared_from_this(), body] { body(*self); }).detach();
    } catch (const std::system_error&) {
      started = false;
    }
    return started;
  }

  void work_loop() {
    current_pool = this;
    std::unique_lock lock(mutex);
    for (;;) {
      work.wait(lock, [&] { return stopping || !queue.empty(); });
      if (queue.empty()) break;
      Running current{std::move(queue.front()), Clock::now()};
      queue.pop_front();
      running.push_back(&current);
      if (watch_idle) watch.notify_one();  // else it looks by itself before long: a wake-up costs as much as a short task
      current_running = &current;
      lock.unlock();
      current.task->run();
      lock.lock();
      current_running = nullptr;
      std::erase(running, &current);
      if (current.abandoned) --hanging;
      const bool finish = !current.abandoned;
      lock.unlock();
      if (finish) current.task->finish(true);
      current.task.reset();  // without the lock: a task may own what owns a pool
      lock.lock();
    }
    --threads;
    ended.notify_all();
    watch.notify_all();
  }

  void watch_loop() {
    current_pool = this;
    std::unique_lock lock(mutex);
    while (!stopping || threads > 0) {
      if (running.empty()) {
        watch_idle = true;
        watch.wait(lock, [&] { return !running.empty() || (stopping && threads == 0); });
        watch_idle = false;
        continue;
      }
      watch.wait_for(lock, options.stall_limit / 4);
      abandon_stalled(lock);
    }
    watching = false;
    ended.notify_all();
  }

  void abandon_stalled(std::unique_lock<std::mutex>& lock) {
    const auto limit = Clock::now() - options.stall_limit;
    bool found = false;
    for (const Running* task : running) found |= !task->abandoned && task->since < limit;
    if (!found) return;
    std::vector<std::shared_ptr<IoTask>> dropped(queue.begin(), queue.end());
    queue.clear();
    for (Running* task : running) {
      if (task->abandoned || task->since >= limit) continue;
      task->abandoned = true;
      dropped.push_back(task->task);
      ++hanging;
    }
    ended.notify_all();
    lock.unlock();
    if (options.on_stall) options.on_stall();
    for (const auto& task : dropped) task->finish(false);
    dropped.clear();
    lock.lock();
  }
};

thread_local IoPool::State* IoPool::State::current_pool = nullptr;
thread_local IoPool::State::Running* IoPool::State::current_running = nullptr;

IoPool::IoPool(Options options) : state_(std::make_shared<State>(std::move(options))) {}

void IoPool::close() {
  if (state_->generation != fork_generation()) {
    new std::shared_ptr<State>(state_);  // leaked: its mutex may be held by a thread of the parent
    return;
  }
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  state_->work.notify_all();
  state_->watch.notify_all();
  // A task may be the last owner of what owns this pool.
  const auto done = [&] { return state_->hanging > 0 || state_->threads == 0; };
  if (State::current_pool != state_.get()) state_->ended.wait(lock, done);
  state_->watch.notify_all();
}

bool IoPool::submit(std::span<const std::shared_ptr<IoTask>> tasks) {
  if (state_->generation != fork_generation()) return false;
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (state.hanging > 0 || state.stopping) return false;
  if (!state.watching) state.watching = state.start_thread([](State& self) { self.watch_loop(); });
  if (!state.watching) return false;
  while (state.threads < state.options.threads &&
         state.threads - state.running.size() < state.queue.size() + tasks.size()) {
    if (!state.start_thread([](State& self) { self.work_loop(); })) break;
    ++state.threads;
  }
  if (state.threads == 0) return false;
  state.queue.insert(state.queue.end(), tasks.begin(), tasks.end());
  if (tasks.size() == 1) {
    state.work.notify_one();
  } else {
    state.work.notify_all();
  }
  return true;
}

bool IoPool::stalled() const {
  if (state_->generation != fork_generation()) return true;
  std::lock_guard lock(state_->mutex);
  return state_->hanging > 0;
}

void IoPool::note_progress() {
  if (State::current_running == nullptr) return;
  std::lock_guard lock(State::current_pool->mutex);
  State::current_running->since = Clock::now();
}

bool run_and_wait(IoPool& pool, std::function<void()> body) {
  struct Call : IoTask {
    std::function<void()> body;
    std::mutex mutex;
    std::condition_variable done;
    enum { kWaiting, kCompleted, kAbandoned } outcome = kWaiting;

    void run() noexcept override { body(); }
    void finish(bool completed) noexcept override {
      std::lock_guard lock(mutex);
      outcome = completed ? kCompleted : kAbandoned;
      done.notify_all();
    }
  };
  auto call = std::make_shared<Call>();
  call->body = std::move(body);
  if (!pool.submit(call)) return false;
  std::unique_lock lock(call->mutex);
  call->done.wait(lock, [&] { return call->outcome != Call::kWaiting; });
  return call->outcome == Call::kCompleted;
}

}  // namespace alnair
