#include "manager/daemon/daemon.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "alnair/core/error.h"
#include "core/log.h"
#include "manager/daemon/client_conf.h"
#include "manager/daemon/job_file.h"
#include "manager/daemon/miss_server.h"
#include "manager/server/log_lines.h"

namespace alnair::manager {
namespace {

using namespace std::chrono_literals;

constexpr timespec kBetweenLooks{1, 0};

// When and what a file was, to see that it has changed.
using Stamp = std::pair<std::filesystem::file_time_type, std::uintmax_t>;

std::optional<Stamp> stamp_of(const std::filesystem::path& path) {
  std::error_code gone;  // it may vanish meanwhile
  const Stamp stamp{std::filesystem::last_write_time(path, gone), std::filesystem::file_size(path, gone)};
  return gone ? std::nullopt : std::optional(stamp);
}

struct RunningJob {
  Stamp stamp;
  std::shared_ptr<JobClient> client = {};  // null: its file is malformed
  std::unique_ptr<MissServer> misses = {};
};

// Nullopt: the directory cannot be read now.
std::optional<std::map<std::string, Stamp>> job_files(const std::string& directory) {
  std::map<std::string, Stamp> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().stem().string();
    if (it->path().extension() != ".json" || name.starts_with('.')) continue;
    if (const auto stamp = stamp_of(it->path())) found.emplace(name, *stamp);
  }
  if (error) return std::nullopt;
  return found;
}

class Daemon {
 public:
  explicit Daemon(const DaemonOptions& options)
      : options_(options),
        secret_stamp_(stamp_of(options.secret_file)),
        manager_(read_client_conf(options.secret_file)) {
    for (const std::string& directory : {options.jobs_directory, options.share.directory})
      if (!std::filesystem::is_directory(directory))
        throw ConfigError(fmt::format("{}: expected a directory", directory));
    if (options_.node.empty()) {
      char name[256] = "";
      gethostname(name, sizeof name - 1);
      options_.node = name;
    }
  }

  void look() {
    look_at_secret();
    write_again();
    const auto readable = job_files(options_.jobs_directory);
    if (!readable && !std::exchange(unreadable_, true))
      log(LogLevel::kError, "{}: cannot be read; its jobs go on", options_.jobs_directory);
    if (!readable) return;
    unreadable_ = false;
    const auto& files = *readable;
    std::vector<std::string> ended;
    for (const auto& [name, job] : jobs_)
      if (const auto file = files.find(name); file == files.end() || file->second != job.stamp) ended.push_back(name);
    end(ended);
    for (const auto& [name, stamp] : files)
      if (!jobs_.contains(name)) start(name, jobs_[name] = {.stamp = stamp});
  }

  void end_all() {
    std::vector<std::string> names;
    for (const auto& [name, job] : jobs_) names.push_back(name);
    end(names);
  }

 private:
  // Passwords and credentials change while jobs run. A secret that is unusable is complained about, and the one before
  // counts.
  void look_at_secret() {
    const auto stamp = stamp_of(options_.secret_file);
    if (!stamp || stamp == secret_stamp_) return;
    secret_stamp_ = stamp;
    try {
      ManagerOptions fresh = read_client_conf(options_.secret_file);
      log(LogLevel::kInfo, "{} has changed: connecting anew", options_.secret_file);
      {
        const std::lock_guard lock(mutex_);
        manager_ = fresh;
      }
      for (const auto& [name, job] : jobs_)
        if (job.client != nullptr) job.client->renew(fresh);
    } catch (const ConfigError& error) {
      log(LogLevel::kError, "{}", error.what());
    }
  }

  ManagerOptions manager() const {
    const std::lock_guard lock(mutex_);
    return manager_;
  }

  void start(const std::string& name, RunningJob& running) {
    try {
      const ManagerOptions manager = this->manager();
      JobOptions job = read_job_file(options_.jobs_directory + "/" + name + ".json", name);
      job.node = options_.node;
      take_up(options_.share, job);
      log(LogLevel::kInfo, "job {}: registering with {}", name, manager.url);
      write(job, JobStatus());
      running.client = JobClient::start(manager, job, [this, job](const JobStatus& status) {
        log(LogLevel::kInfo, "job {}: {}{}{}", job.name, status.state, status.detail.empty() ? "" : ": ",
            status.detail);
        write(job, status);
      });
      running.misses = std::make_unique<MissServer>(options_.share, job.name, running.client);
    } catch (const ConfigError& error) {  // the other jobs go on; a change of the file is another attempt
      log(LogLevel::kError, "{}", error.what());
    }
  }

  void write(const JobOptions& job, const JobStatus& status) {
    const std::lock_guard lock(writing_);
    unwritten_.erase(job.name);
    try {
      write_share_files(options_.share, job, manager(), status);
    } catch (const ConfigError& error) {
      log(LogLevel::kError, "{}", error.what());
      unwritten_.emplace(job.name, std::pair(job, status));
    }
  }

  // Until the directory takes it: there may be no other news of the job for days.
  void write_again() {
    const std::lock_guard lock(writing_);
    std::erase_if(unwritten_, [&](const auto& entry) {
      try {
        write_share_files(options_.share, entry.second.first, manager(), entry.second.second);
        return true;
      } catch (const ConfigError&) {  // as was said
        return false;
      }
    });
  }

  // All at once: an unreachable manager costs one time-out.
  void end(const std::vector<std::string>& names) {
    std::vector<std::thread> closing;
    for (const std::string& name : names)
      if (const auto client = jobs_[name].client) closing.emplace_back([client] { client->close(5s); });
    for (std::thread& thread : closing) thread.join();
    for (const std::string& name : names) {
      jobs_[name].misses.reset();
      {
        const std::lock_guard lock(writing_);
        unwritten_.erase(name);
      }
      remove_share_files(options_.share, name);
      jobs_.erase(name);
      log(LogLevel::kInfo, "job {}: deregistered", name);
    }
  }

  DaemonOptions options_;
  std::optional<Stamp> secret_stamp_;
  mutable std::mutex mutex_;
  ManagerOptions manager_;  // guarded by mutex_
  std::map<std::string, RunningJob> jobs_;
  bool unreadable_ = false;  // the jobs' directory, at the last look
  std::mutex writing_;       // one file is written at a time, the newest last
  std::map<std::string, std::pair<JobOptions, JobStatus>> unwritten_;  // by job; guarded by writing_
};

}  // namespace

int run_daemon(const DaemonOptions& options) {
  start_log(false);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT}) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  Daemon daemon(options);
  do daemon.look();
  while (sigtimedwait(&signals, nullptr, &kBetweenLooks) < 0);
  daemon.end_all();
  return 0;
}

int wait_ready(const std::string& share_directory, const std::string& job, double patience_s) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(patience_s);
  std::string state;
  while ((state = shared_state(share_directory, job)) != "ready") {
    if (std::chrono::steady_clock::now() >= deadline) {
      std::fprintf(stderr, "alnair-manager: the job %s is not ready after %g s: %s\n", job.c_str(), patience_s,
                   state.empty() ? "no daemon has begun with it" : state.c_str());
      return 1;
    }
    std::this_thread::sleep_for(100ms);
  }
  return 0;
}

}  // namespace alnair::manager
