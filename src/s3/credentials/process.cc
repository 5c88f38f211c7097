#include "s3/credentials/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "alnair/core/error.h"
#include "core/end_at_exit.h"
#include "s3/xml.h"

extern char** environ;

namespace alnair {
namespace {

constexpr std::size_t kMaxOutput = 64 << 10;  // bytes
constexpr std::chrono::milliseconds kPollInterval{100};

[[noreturn]] void fail(const std::string& position, std::string_view what) {
  throw ConfigError(fmt::format("{}: the credential_process {}.", position, what));
}

// A child in a process group of its own, killed with all its children at the end of the scope, or of this process: no
// Ctrl-C reaches that group.
class Child {
 public:
  Child(const std::string& command, const std::string& position) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
      fail(position, fmt::format("cannot be started: {}", std::strerror(errno)));
    output_ = ends[0];
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, pipe_only;  // our threads block signals and Python ignores SIGPIPE; a child wants neither
    sigemptyset(&none);
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &pipe_only);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    std::string shell = "sh", option = "-c", text = command;
    char* const arguments[] = {shell.data(), option.data(), text.data(), nullptr};
    const int error = posix_spawn(&pid_, "/bin/sh", &files, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    close(ends[1]);
    if (error != 0) {
      close(output_);
      fail(position, fmt::format("cannot be started: {}", std::strerror(error)));
    }
    group_->store(pid_);
  }
  ~Child() {
    close(output_);
    if (pid_ > 0) {
      kill(-pid_, SIGKILL);
      wait_for_end(0);
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int output() const { return output_; }

  // The exit status as waitpid gives it; nullopt: still running.
  std::optional<int> ended() { return wait_for_end(WNOHANG); }

 private:
  std::optional<int> wait_for_end(int flags) {
    int status = 0;
    pid_t result = 0;
    do result = waitpid(pid_, &status, flags);
    while (result < 0 && errno == EINTR);
    if (result == 0) return std::nullopt;
    group_->store(0);
    pid_ = -1;
    return result < 0 ? 0 : status;  // the program reaps children itself: the output must speak
  }

  pid_t pid_ = -1;
  int output_ = -1;
  const std::shared_ptr<std::atomic<pid_t>> group_ = std::make_shared<std::atomic<pid_t>>(0);
  const EndAtExit end_{[group = group_] {
    if (const pid_t pid = group->load(); pid > 0) kill(-pid, SIGKILL);
  }};
};

std::string string_field(const nlohmann::json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_string() ? field->get<std::string>() : "";
}

}  // namespace

LoadedCredentials run_credential_process(const std::string& command, const std::string& position,
                                         const Interrupt& interrupt, std::chrono::milliseconds timeout) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + timeout;
  Child child(command, position);
  std::string text;
  bool at_end = false;
  std::optional<int> status;
  while (!at_end || !status) {
    if (interrupt) interrupt();
    if (Clock::now() >= deadline)
      fail(position, fmt::format("did not end within {} s", timeout.count() / 1000.0));
    if (at_end) {
      status = child.ended();
      if (!status) poll(nullptr, 0, 5);
      continue;
    }
    pollfd readable{child.output(), POLLIN, 0};
    if (poll(&readable, 1, static_cast<int>(kPollInterval.count())) <= 0) continue;
    char block[4096];
    const ssize_t count = read(child.output(), block, sizeof block);
    if (count > 0) text.append(block, static_cast<std::size_t>(count));
    if (text.size() > kMaxOutput) fail(position, fmt::format("printed more than {} bytes", kMaxOutput));
    at_end = count == 0 || (count < 0 && errno != EINTR);
  }
  if (WIFSIGNALED(*status)) fail(position, fmt::format("was killed by signal {}", WTERMSIG(*status)));
  if (WEXITSTATUS(*status) == 127) fail(position, "failed with status 127 (command not found?)");
  if (WEXITSTATUS(*status) != 0) fail(position, fmt::format("failed with status {}", WEXITSTATUS(*status)));
  return parse_process_credentials(text, position);
}

LoadedCredentials parse_process_credentials(const std::string& text, const std::string& position) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.is_object())
    fail(position, "printed no JSON object; expected {\"Version\": 1, \"AccessKeyId\": ..., ...}");
  const auto version = json.find("Version");
  if (version == json.end() || *version != 1) fail(position, "printed JSON without \"Version\": 1");
  LoadedCredentials loaded;
  loaded.keys = {string_field(json, "AccessKeyId"), string_field(json, "SecretAccessKey"),
                 string_field(json, "SessionToken")};
  if (loaded.keys.access_key_id.empty()) fail(position, "printed JSON without \"AccessKeyId\"");
  if (loaded.keys.secret_access_key.empty()) fail(position, "printed JSON without \"SecretAccessKey\"");
  if (const std::string expiration = string_field(json, "Expiration"); !expiration.empty()) {
    const auto expires = parse_iso8601_ms(expiration);
    if (!expires) fail(position, "printed an \"Expiration\" that is no ISO 8601 time");
    loaded.expires = SystemTime(std::chrono::milliseconds(*expires));
  }
  loaded.origin = fmt::format("the credential_process of {}", position);
  return loaded;
}

}  // namespace alnair
