// The one place that maps C++ errors to Python's exceptions (alnair.errors).
#pragma once

#include <pybind11/pybind11.h>

#include <exception>

namespace alnair::python {

// The Python exception for a failure: an instance of the class in alnair.errors that has the C++ class's
// name. What Python itself raised (KeyboardInterrupt in an Interrupt) comes back as it was. Needs the GIL.
pybind11::object exception_for(const std::exception_ptr& error);

// Makes pybind11 raise these exceptions for whatever a bound function throws. Called once, by the module.
void register_errors();

}  // namespace alnair::python
