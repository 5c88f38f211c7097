#include "source/read_pool.h"

#include <algorithm>
#include <system_error>

#include "alnair/core/error.h"
#include "core/block_signals.h"

namespace alnair {
struct ReadPool::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<Job>> queue;     // guarded by mutex
  std::vector<std::shared_ptr<Job>> running;  // guarded by mutex
  std::vector<std::thread> threads;           // guarded by mutex
  int idle = 0;                               // guarded by mutex
  bool stopping = false;                      // guarded by mutex
  int max_threads = 1;
};

class ReadPool::Job final : public PendingRead, public std::enable_shared_from_this<Job> {
 public:
  Job(std::weak_ptr<State> state, Work the_work, ReadDone the_done)
      : work(std::move(the_work)), done(std::move(the_done)), state_(std::move(state)) {}

  void cancel() override {
    cancelled = true;
    const std::shared_ptr<State> state = state_.lock();
    if (state == nullptr) return;
    {
      const std::lock_guard lock(state->mutex);
      const auto queued = std::find(state->queue.begin(), state->queue.end(), shared_from_this());
      if (queued == state->queue.end()) return;  // it runs, and looks at `cancelled`; or it has ended
      state->queue.erase(queued);
    }
    end_cancelled(*this);
  }

  const Work work;
  const ReadDone done;
  std::atomic<bool> cancelled{false};

 private:
  const std::weak_ptr<State> state_;
};

ReadPool::ReadPool(int max_threads) : state_(std::make_shared<State>()) { state_->max_threads = max_threads; }

ReadPool::~ReadPool() {
  std::deque<std::shared_ptr<Job>> abandoned;
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    abandoned.swap(state_->queue);
    threads.swap(state_->threads);
    for (const auto& job : state_->running) job->cancelled = true;
  }
  state_->changed.notify_all();
  for (const auto& job : abandoned) end_cancelled(*job);
  for (std::thread& thread : threads) {
    if (thread.get_id() == std::this_thread::get_id())
      thread.detach();  // the last user let go of the pool in its `done`
    else
      thread.join();
  }
}

void ReadPool::end_cancelled(Job& job) {
  job.done({{}, std::make_exception_ptr(CancelledError("The read was cancelled."))});
}

std::shared_ptr<PendingRead> ReadPool::submit(Work work, ReadDone done) {
  auto job = std::make_shared<Job>(state_, std::move(work), std::move(done));
  const std::lock_guard lock(state_->mutex);
  state_->queue.push_back(job);
  if (state_->idle >= static_cast<int>(state_->queue.size()) ||
      static_cast<int>(state_->threads.size()) >= state_->max_threads) {
    state_->changed.notify_one();
    return job;
  }
  try {
    const BlockSignals block;
    state_->threads.emplace_back([state = state_] { run(state); });
  } catch (const std::system_error&) {
    if (state_->threads.empty()) {
      state_->queue.pop_back();
      throw SourceError("The system refuses to start a thread for reading.");
    }
  }
  return job;
}

void ReadPool::run(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  while (true) {
    ++state->idle;
    state->changed.wait(lock, [&] { return state->stopping || !state->queue.empty(); });
    --state->idle;
    if (state->stopping) return;
    const std::shared_ptr<Job> job = state->queue.front();
    state->queue.pop_front();
    state->running.push_back(job);
    lock.unlock();

    ReadResult result;
    try {
      if (job->cancelled) throw CancelledError("The read was cancelled.");
      result.bytes = job->work(job->cancelled);
    } catch (...) {
      result.error = std::current_exception();
    }
    job->done(std::move(result));

    lock.lock();
    state->running.erase(std::find(state->running.begin(), state->running.end(), job));
  }
}

}  // namespace alnair
