// DatasetOptions from a Python dict, as alnair._config makes it.
#pragma once

#include <pybind11/pybind11.h>

#include "alnair/dataset/dataset.h"

namespace alnair::python {

// Every item must be known: a name that is not, or a value of the wrong type, is a mistake in alnair._config.
DatasetOptions dataset_options(const pybind11::dict& items);

}  // namespace alnair::python
