// alnair._core.Dataset: the C++ Dataset, bound.
#pragma once

#include <pybind11/pybind11.h>

#include "alnair/cache/tier.h"

namespace alnair::python {

// A tier's usage by name.
pybind11::dict usage_dict(const TierUsage& tier);

// Adds the type and open() to the module. Called once.
void register_dataset(pybind11::module_& module);

}  // namespace alnair::python
