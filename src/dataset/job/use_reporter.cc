#include "dataset/job/use_reporter.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "alnair/core/error.h"
#include "alnair/core/stats.h"
#include "core/block_signals.h"
#include "core/fork.h"
#include "dataset/job/daemon_socket.h"

namespace alnair {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kBetween{5};

// What close() need not wait for: the thread keeps it until the daemon has answered.
struct Reporting {
  explicit Reporting(const std::string& path) : socket(path) {}

  void run() {
    std::unique_lock lock(mutex);
    for (bool last = false; !last;) {
      last = changed.wait_for(lock, kBetween, [&] { return closing; });
      lock.unlock();
      tell();
      lock.lock();
    }
    ended = true;
    changed.notify_all();
  }

  void tell() {
    json report = use_of_this_process();
    if (report.empty()) return;
    try {
      report["process"] = process;
      socket.ask({{"report", std::move(report)}});
    } catch (const Error&) {  // there is no daemon any more, or not yet
    }
  }

  // Counters of a process that has begun again are not those of before.
  const std::string process = fmt::format("{}-{:x}", getpid(), std::chrono::steady_clock::now().time_since_epoch().count());
  DaemonSocket socket;
  std::mutex mutex;
  std::condition_variable changed;
  bool closing = false, ended = false;
};

class ThreadedReporter final : public UseReporter {
 public:
  explicit ThreadedReporter(const std::string& path) : reporting_(std::make_shared<Reporting>(path)) {
    const BlockSignals block;
    std::thread([reporting = reporting_] { reporting->run(); }).detach();
  }
  ~ThreadedReporter() override { close(); }

  void close() override {
    constexpr std::chrono::seconds kPatience{1};  // a daemon answers at once, or is not there
    if (generation_ != fork_generation()) return;
    std::unique_lock lock(reporting_->mutex);
    reporting_->closing = true;
    reporting_->changed.notify_all();
    if (reporting_->changed.wait_for(lock, kPatience, [&] { return reporting_->ended; })) return;
    lock.unlock();
    reporting_->socket.stop();
  }

 private:
  const std::uint64_t generation_ = fork_generation();
  const std::shared_ptr<Reporting> reporting_;
};

}  // namespace

json use_of_this_process() {
  auto counters = stats();
  if (counters["reads"] == 0) return json::object();
  std::erase_if(counters, [](const auto& counter) {
    return counter.second == 0 || counter.first.find("_latency_") != std::string::npos;
  });
  return {{"counters", counters}};
}

std::shared_ptr<UseReporter> UseReporter::start(const std::string& socket) {
  return std::make_shared<ThreadedReporter>(socket);
}

}  // namespace alnair
