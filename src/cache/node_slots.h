// Request slots that all processes of a node share: record locks of one file in node memory's directory, one for each slot.
// They die with their holder, and a forked child holds none of its parent's.
#pragma once

#include <memory>
#include <string>

#include "http/request_slots.h"

namespace alnair {

// Touches nothing yet. join() opens the file, and returns null, with a warning, where that fails.
std::shared_ptr<RequestSlots> node_request_slots(const std::string& memory_dir);

}  // namespace alnair
