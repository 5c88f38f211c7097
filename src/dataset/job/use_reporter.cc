#include "dataset/job/use_reporter.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "alnair/core/error.h"
#include "alnair/core/stats.h"
#include "core/block_signals.h"
#include "core/fork.h"
#include "core/metrics.h"
#include "dataset/job/daemon_socket.h"
#include "dataset/node.h"

namespace alnair {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kBetween{5};

// Whose counters these are: those of all processes that share a block of them are the same (Metrics), and those of one
// that has begun again are others.
std::string counting_block() {
  static const auto begun = std::chrono::steady_clock::now().time_since_epoch().count();
  const std::string path = metrics_path();
  struct stat status{};
  if (path.empty() || stat(path.c_str(), &status) != 0) return fmt::format("{}-{:x}", getpid(), begun);
  return fmt::format("{}-{:x}", path, status.st_ino);
}

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
      report["process"] = counting_block();
      socket.ask({{"report", std::move(report)}});
    } catch (const Error&) {  // there is no daemon any more, or not yet
    }
  }

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
  json report = json::object();
  auto counters = stats();
  if (counters["reads"] > 0) {
    std::erase_if(counters, [](const auto& counter) {
      return counter.second == 0 || counter.first.find("_latency_") != std::string::npos;
    });
    report["counters"] = counters;
  }
  if (const auto tiers = usage_of_open_nodes(); !tiers.empty()) report["tiers"] = to_json(tiers);
  return report;
}

json to_json(const std::vector<NodeTier>& tiers) {
  json list = json::array();
  for (const NodeTier& tier : tiers)
    list.push_back({{"tier", tier.tier},
                    {"place", tier.place},
                    {"used_bytes", tier.used_bytes},
                    {"limit_bytes", tier.limit_bytes}});
  return list;
}

std::vector<NodeTier> node_tiers(const json& report, std::size_t most) {
  constexpr std::size_t kLongestPlace = 64;
  constexpr std::uint64_t kMostBytes = 1ull << 60;
  std::vector<NodeTier> tiers;
  const auto list = report.find("tiers");
  if (list == report.end() || !list->is_array()) return tiers;
  for (const json& item : *list) {
    if (tiers.size() == most) break;
    if (!item.is_object()) continue;
    const auto text = [&](const char* name) -> std::string {
      const auto found = item.find(name);
      return found != item.end() && found->is_string() ? found->get<std::string>() : "";
    };
    const auto bytes = [&](const char* name) -> std::optional<std::uint64_t> {
      const auto found = item.find(name);
      if (found == item.end() || !found->is_number_unsigned() || found->get<std::uint64_t>() > kMostBytes)
        return std::nullopt;
      return found->get<std::uint64_t>();
    };
    const auto used = bytes("used_bytes"), limit = bytes("limit_bytes");
    NodeTier tier{text("tier"), text("place"), used.value_or(0), limit.value_or(0)};
    if ((tier.tier == "memory" || tier.tier == "disk") && tier.place.size() <= kLongestPlace && used && limit)
      tiers.push_back(std::move(tier));
  }
  return tiers;
}

std::shared_ptr<UseReporter> UseReporter::start(const std::string& socket) {
  return std::make_shared<ThreadedReporter>(socket);
}

}  // namespace alnair
