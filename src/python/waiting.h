// Waiting in the library without the GIL, interruptible by Ctrl-C.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

#include "alnair/source/object_source.h"
#include "python/log_bridge.h"

namespace alnair::python {

// For a call that blocks without the GIL: delivers log messages, runs Python's signal handlers (which raise
// KeyboardInterrupt in the main thread), then `tick`, which runs with the GIL.
template <typename Tick>
Interrupt interrupt_with(Tick tick) {
  return [tick] {
    const pybind11::gil_scoped_acquire gil;
    deliver_log_messages();
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
    tick();
  };
}
inline Interrupt interrupt() {
  return interrupt_with([] {});
}

// Runs `work` without the GIL, then delivers log messages.
template <typename Work>
auto without_gil(Work&& work) {
  auto result = [&] {
    const pybind11::gil_scoped_release release;
    return std::forward<Work>(work)();
  }();
  deliver_log_messages();
  return result;
}

}  // namespace alnair::python
