#include "catalog/fork_gate.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>

namespace alnair {
namespace {

constexpr std::chrono::seconds kPatience{5};

struct State {
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;
  bool forking = false;
  bool hangs = false;  // whoever is inside was waited for in vain
  std::set<ForkClosable*> members;
};

std::atomic<State*> g_state{nullptr};  // leaked: a thread may be inside when the process ends
std::atomic<bool> g_usable{true};
State* g_childs = nullptr;  // made by the forking thread, for its child
bool g_closed = false;      // the forking thread's: all connections are closed

// 1. Nobody enters any more. 2. Whoever is inside leaves. 3. Connections are closed. Then fork() proceeds.
// Another thread's fork waits for this one.
void before_fork() {
  State& state = *g_state.load();
  std::unique_lock lock(state.mutex);
  state.changed.wait(lock, [&] { return !state.forking; });
  state.forking = true;
  const auto patience = state.hangs ? std::chrono::seconds(0) : kPatience;
  g_closed = state.changed.wait_for(lock, patience, [&] { return state.inside == 0; });
  state.hangs = !g_closed;
  if (g_closed)
    for (ForkClosable* member : state.members) member->close_for_fork();
  g_childs = new State;
}

void after_fork_in_parent() {
  delete g_childs;
  State& state = *g_state.load();
  const std::lock_guard lock(state.mutex);
  state.forking = false;
  state.changed.notify_all();
}

// The inherited state is leaked: its mutex may be held by a thread that is not here.
void after_fork_in_child() {
  if (!g_closed) g_usable = false;
  g_state = g_childs;
}

State& state() {
  static const int registered = [] {
    g_state = new State;
    return pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  }();
  (void)registered;
  return *g_state.load();
}

}  // namespace

ForkGate::ForkGate() {
  State& here = state();
  std::unique_lock lock(here.mutex);
  here.changed.wait(lock, [&] { return !here.forking; });
  ++here.inside;
}

ForkGate::~ForkGate() {
  State& here = state();
  const std::lock_guard lock(here.mutex);
  --here.inside;
  here.changed.notify_all();
}

bool ForkGate::usable() const { return g_usable; }

void ForkGate::add(ForkClosable* member) {
  const std::lock_guard lock(state().mutex);
  state().members.insert(member);
}

void ForkGate::remove(ForkClosable* member) {
  const std::lock_guard lock(state().mutex);
  state().members.erase(member);
}

}  // namespace alnair
