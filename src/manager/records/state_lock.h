// The lock of a state directory: one manager at a time works with it.
#pragma once

#include <functional>
#include <string>

#include "core/file.h"

namespace alnair::manager {

// Asked again and again while another manager has what this one wants: false ends the waiting. Empty: do not wait.
using Patience = std::function<bool()>;

// Locks `directory`/manager.lock; the lock dies with its holder. Throws CacheError: another manager has it, and there
// is no patience (any more).
FileDescriptor lock_state(const std::string& directory, const Patience& patience);

}  // namespace alnair::manager
