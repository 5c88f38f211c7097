// What `python -m alnair` asks of a datasource and of this node without opening a dataset.
#pragma once

#include <pybind11/pybind11.h>

namespace alnair::python {

// Adds the functions to the module. Called once.
void register_probe(pybind11::module_& module);

}  // namespace alnair::python
