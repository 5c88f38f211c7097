// Bytes that a process lends to the others of its node, which map them: a dataset's lists on their way to its workers.
//
// They are files in the share directory, named by the content hash of what they hold. The ones used least recently are
// removed when there are many, so what was lent may be gone: the reader must have another way to come by it.
//
// Nothing here throws. Thread safety: both may be called from any thread of any process at once.
#pragma once

#include <span>
#include <string>

#include "alnair/core/bytes.h"

namespace alnair {

// Makes the file, or marks it as used just now if it is there. The result is its name; empty if the directory cannot take
// it (there is none, it is full, it is read-only) or there is nothing to lend.
std::string lend_bytes(const std::string& share_directory, std::span<const std::byte> bytes);

// The bytes of that name, mapped as long as the view lives; an empty view if there are none (any more) or they are damaged.
View lent_bytes(const std::string& share_directory, const std::string& name);

}  // namespace alnair
