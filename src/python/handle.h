// alnair.Handle: an object of a dataset, not read yet.
#pragma once

#include <pybind11/pybind11.h>

namespace alnair::python {

// Adds the type, and the function that makes many, to the module. Called once.
void register_handle(pybind11::module_& module);

}  // namespace alnair::python
