// alnair._core.Dataset: the C++ Dataset, bound.
#pragma once

#include <pybind11/pybind11.h>

namespace alnair::python {

// Adds the type and open() to the module. Called once.
void register_dataset(pybind11::module_& module);

}  // namespace alnair::python
