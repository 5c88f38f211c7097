#include "manager/server/serve.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "alnair/core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "manager/server/log_lines.h"
#include "manager/server/manager.h"

namespace alnair::manager {
namespace {

// A unit of Type=notify names a datagram socket in the environment.
void tell_systemd(const char* what) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path == nullptr || *path == '\0' || std::strlen(path) >= sizeof address.sun_path) return;
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path);
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';  // an abstract name
  const FileDescriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  sendto(socket.get(), what, std::strlen(what), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), size);
}

// A connection is a descriptor.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void say(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

bool stop_is_pending() {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
}

}  // namespace

int serve(const Config& config) {
  start_log(config.log_format == "json");
  raise_descriptor_limit();
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT}) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  bool standing_by = false;
  const auto wait = [&] {
    if (!std::exchange(standing_by, true)) {
      log(LogLevel::kInfo, "standing by: another manager has the records");
      say("alnair-manager: standing by");
      tell_systemd("READY=1\nSTATUS=standing by");
    }
    return !stop_is_pending();
  };
  std::unique_ptr<Manager> manager;
  try {
    manager = Manager::start(config, wait);
  } catch (const CacheError&) {
    if (standing_by && stop_is_pending()) return 0;
    throw;
  }
  const std::string host = config.bind.find(':') == std::string::npos ? config.bind : "[" + config.bind + "]";
  log(LogLevel::kInfo, "listening on {} port {}, state in {}", config.bind, manager->port(), config.state_dir);
  say(fmt::format("alnair-manager: ready at {}://{}:{}",
                  config.tls_certificate.empty() ? "http" : "https", host, manager->port()));
  tell_systemd("READY=1\nSTATUS=serving");

  int number = 0;
  sigwait(&signals, &number);
  log(LogLevel::kInfo, "{}: stopping within {} s", strsignal(number), config.shutdown);
  tell_systemd("STOPPING=1");
  // What hangs (a file system) must not keep the process: everything acknowledged is on disk already.
  signal(SIGALRM, [](int) { _exit(1); });
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
  alarm(static_cast<unsigned>(config.shutdown));
  manager->stop(std::chrono::milliseconds(config.shutdown * 500));
  log(LogLevel::kInfo, "stopped");
  return manager->lost() ? 1 : 0;
}

}  // namespace alnair::manager
