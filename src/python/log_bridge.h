// Messages of the library on their way to Python's logger "alnair".
//
// The library's threads never take the GIL: they leave messages in a bounded queue, which Python's threads
// empty on their next call into the library, while they wait in one, and at exit.
#pragma once

namespace alnair::python {

// Makes the queue the library's log sink. Called once.
void install_log_bridge();

// Hands what is queued to Python's logger. Needs the GIL. Throws what a handler raises.
void deliver_log_messages();

}  // namespace alnair::python
