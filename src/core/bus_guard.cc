#include "core/bus_guard.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>

namespace alnair {
namespace {

struct Range {
  std::atomic<std::uintptr_t> begin{0};  // 0: free; 1: being filled in
  std::atomic<std::size_t> bytes{0};
};
Range g_ranges[128];
struct sigaction g_previous {};
thread_local sigjmp_buf* t_return = nullptr;

bool replace_by_zeros(std::uintptr_t address) {
  for (const Range& range : g_ranges) {
    const std::uintptr_t begin = range.begin.load(std::memory_order_acquire);
    if (begin <= 1 || address < begin || address >= begin + range.bytes) continue;
    void* const start = reinterpret_cast<void*>(begin);
    return mmap(start, range.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == start;
  }
  return false;
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const bool fault = info->si_code > 0;  // by touching memory, not sent by kill()
  if (fault && t_return != nullptr) siglongjmp(*t_return, 1);
  if (fault && replace_by_zeros(reinterpret_cast<std::uintptr_t>(info->si_addr))) return;
  if ((g_previous.sa_flags & SA_SIGINFO) != 0) return g_previous.sa_sigaction(signal, info, context);
  if (g_previous.sa_handler != SIG_DFL && g_previous.sa_handler != SIG_IGN) return g_previous.sa_handler(signal);
  sigaction(SIGBUS, &g_previous, nullptr);
  if (!fault) raise(signal);  // else the instruction runs again, and the default action follows
}

}  // namespace

void install_bus_guard() {
  struct sigaction current {};
  if (sigaction(SIGBUS, nullptr, &current) != 0) return;
  if ((current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == on_bus_error) return;
  g_previous = current;
  struct sigaction ours {};
  ours.sa_sigaction = on_bus_error;
  // NODEFER: the handler is left by a jump that restores no signal mask.
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGBUS, &ours, nullptr);
}

bool survives_bus_error(bool (*body)(void*), void* argument) {
  sigjmp_buf here;
  sigjmp_buf* const outer = t_return;
  if (sigsetjmp(here, 0) != 0) {
    t_return = outer;
    return false;
  }
  t_return = &here;
  const bool result = body(argument);
  t_return = outer;
  return result;
}

void guard_mapping(void* begin, std::size_t bytes) {
  for (Range& range : g_ranges) {
    std::uintptr_t free_range = 0;
    if (!range.begin.compare_exchange_strong(free_range, 1)) continue;
    range.bytes = bytes;
    range.begin.store(reinterpret_cast<std::uintptr_t>(begin), std::memory_order_release);
    return;
  }
}

void unguard_mapping(void* begin) {
  for (Range& range : g_ranges)
    if (range.begin == reinterpret_cast<std::uintptr_t>(begin)) range.begin = 0;
}

}  // namespace alnair
