#include "core/fork.h"

#include <pthread.h>

namespace alnair {
namespace {

std::atomic<std::uint64_t> g_generation{0};

// Registered while the library loads: it makes no thread, socket or lock.
[[maybe_unused]] const int g_registered =
    pthread_atfork(nullptr, nullptr, [] { g_generation.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

std::uint64_t fork_generation() { return g_generation.load(std::memory_order_relaxed); }

}  // namespace alnair
