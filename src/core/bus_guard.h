// Mapped files that somebody cuts short are a SIGBUS for whoever touches the lost pages. A cache must not crash for that:
// while this process is reading a file of its own accord it survives, and takes what it read for damaged.
//
// The handler that is installed passes on every SIGBUS that is none of ours to the handler that was there before.
// Thread safety: all functions may be called from any thread at once, and in forked children.
#pragma once

#include <cstddef>

namespace alnair {

// Installs the handler, unless it is the current one. Call it whenever files are going to be mapped: others (PyTorch's
// workers) install theirs, too.
void install_bus_guard();

// Runs `body`, which touches mapped memory and must not own anything (it is left by a jump). false: it returned false,
// or touched lost pages.
bool survives_bus_error(bool (*body)(void* argument), void* argument);

template <typename Body>
bool survives_bus_error(Body&& body) {
  return survives_bus_error([](void* argument) { return (*static_cast<Body*>(argument))(); }, &body);
}

// Between these calls, lost pages of the mapping read as zeros in this process (all of the mapping does, from the first
// touch of a lost page on). For mappings where zeros are harmless. At most 128 at a time; more are not guarded.
void guard_mapping(void* begin, std::size_t bytes);
void unguard_mapping(void* begin);

}  // namespace alnair
