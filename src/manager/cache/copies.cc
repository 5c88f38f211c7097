#include "manager/cache/copies.h"

#include <atomic>
#include <chrono>
#include <utility>

#include "alnair/core/error.h"
#include "core/block_signals.h"
#include "manager/cache/walk.h"

namespace alnair::manager {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kWorks[] = {"copy", "check", "evict", "look"};

}  // namespace

std::string to_string(Work work) { return kWorks[static_cast<int>(work)]; }

std::optional<Work> work_named(const std::string& name) {
  for (int i = 0; i < 4; ++i)
    if (name == kWorks[i]) return static_cast<Work>(i);
  return std::nullopt;
}

struct Copies::Copy {
  Copy(std::string name, const CopyPlan& its_plan, OpenChunks how)
      : dataset(std::move(name)), plan(its_plan), open(std::move(how)) {
    status.work = plan.work;
    status.running = true;
  }

  void run() {
    const auto check = [this] {
      if (cancelled) throw CancelledError("the work was cancelled");
    };
    const auto change = [this](const std::function<void(CopyStatus&)>& change_it) {
      const std::lock_guard lock(mutex);
      change_it(status);
    };
    try {
      check();
      walk(*open(), plan, {change, check});
    } catch (const CancelledError&) {
    } catch (const std::exception& error) {
      change([&](CopyStatus& its) {
        its.failure = error.what();
        its.broke_off = true;
      });
    }
    change([](CopyStatus& its) { its.running = false; });
  }

  CopyStatus now() {
    const std::lock_guard lock(mutex);
    CopyStatus copy = status;
    copy.elapsed_s = std::chrono::duration<double>(Clock::now() - begun).count();
    return copy;
  }

  const std::string dataset;
  const CopyPlan plan;
  const OpenChunks open;
  const Clock::time_point begun = Clock::now();
  std::atomic<bool> cancelled{false};
  std::map<std::string, Done> waiters;  // guarded by Copies::mutex_
  std::mutex mutex;
  CopyStatus status;  // guarded by `mutex`
};

Copies::Copies(std::size_t threads) {
  const BlockSignals block;
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

Copies::~Copies() { stop(); }

void Copies::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (auto& [dataset, copy] : copies_) copy->cancelled = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool Copies::start(const std::string& dataset, const std::string& waiter, const CopyPlan& plan, OpenChunks open,
                   Done done) {
  const std::lock_guard lock(mutex_);
  auto& copy = copies_[dataset];
  if (copy != nullptr && !copy->cancelled && copy->plan.work != plan.work) return false;
  if (copy == nullptr || copy->cancelled) {
    copy = std::make_shared<Copy>(dataset, plan, std::move(open));
    queue_.push_back(copy);
    changed_.notify_one();
  }
  copy->waiters[waiter] = std::move(done);
  return true;
}

void Copies::forget(const std::string& dataset, const std::string& waiter) {
  const std::lock_guard lock(mutex_);
  const auto found = copies_.find(dataset);
  if (found == copies_.end() || found->second->waiters.erase(waiter) == 0 || !found->second->waiters.empty()) return;
  found->second->cancelled = true;
}

void Copies::cancel(const std::string& dataset) {
  const std::lock_guard lock(mutex_);
  if (const auto found = copies_.find(dataset); found != copies_.end()) found->second->cancelled = true;
}

std::optional<CopyStatus> Copies::status(const std::string& dataset) const {
  const std::lock_guard lock(mutex_);
  if (const auto found = copies_.find(dataset); found != copies_.end()) return found->second->now();
  const auto found = ended_.find(dataset);
  return found == ended_.end() ? std::nullopt : std::optional(found->second);
}

std::uint64_t Copies::running() const {
  const std::lock_guard lock(mutex_);
  return copies_.size();
}

void Copies::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const std::shared_ptr<Copy> copy = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    copy->run();
    const CopyStatus status = copy->now();
    lock.lock();
    if (const auto found = copies_.find(copy->dataset); found != copies_.end() && found->second == copy)
      copies_.erase(found);
    ended_[copy->dataset] = status;
    if (stopping_) return;
    const auto waiters = std::move(copy->waiters);
    lock.unlock();
    for (const auto& [waiter, done] : waiters)
      if (done) done(status);
    lock.lock();
  }
}

}  // namespace alnair::manager
