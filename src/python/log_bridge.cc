#include "python/log_bridge.h"

#include <pybind11/pybind11.h>

#include <atomic>
#include <memory>
#include <string>

#include "core/fork.h"
#include "core/log.h"
#include "python/text.h"

namespace py = pybind11;

namespace alnair::python {
namespace {

constexpr int kMaxQueued = 1000;  // messages; more are dropped, and counted

// A stack without locks, so that a fork at any instant leaves it usable. A forked child skips what its parent
// queued.
struct Message {
  std::uint64_t generation;
  LogLevel level;
  std::string text;
  Message* next;
};
std::atomic<Message*> g_newest{nullptr};
std::atomic<int> g_queued{0};
std::atomic<int> g_dropped{0};

void push(LogLevel level, std::string_view text) {
  if (g_queued.fetch_add(1) >= kMaxQueued) {
    g_queued.fetch_sub(1);
    g_dropped.fetch_add(1);
    return;
  }
  auto* message = new Message{fork_generation(), level, std::string(text), g_newest.load()};
  while (!g_newest.compare_exchange_weak(message->next, message)) {
  }
}

int python_level(LogLevel level) { return 10 * (static_cast<int>(level) + 1); }  // debug 10 ... error 40

}  // namespace

void install_log_bridge() { set_log_sink(push); }

void deliver_log_messages() {
  if (g_newest.load(std::memory_order_relaxed) == nullptr) return;
  Message* newest = g_newest.exchange(nullptr);
  Message* oldest = nullptr;
  int count = 0;
  for (; newest != nullptr; ++count) {
    Message* next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  g_queued.fetch_sub(count);
  const py::object log = py::module_::import("logging").attr("getLogger")("alnair").attr("log");
  while (oldest != nullptr) {
    const std::unique_ptr<Message> message(oldest);
    oldest = message->next;
    if (message->generation == fork_generation())
      log(python_level(message->level), "%s", message_text(message->text));
  }
  if (const int dropped = g_dropped.exchange(0); dropped > 0)
    log(30, "%d more messages were dropped", dropped);
}

}  // namespace alnair::python
