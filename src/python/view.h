// alnair.View: bytes of the cache, without a copy.
#pragma once

#include <pybind11/pybind11.h>

#include "alnair/core/bytes.h"

namespace alnair::python {

// Adds the type to the module. Called once.
void register_view(pybind11::module_& module);

// A new alnair.View that shares in `view`. Needs the GIL.
pybind11::object make_view(View view);

}  // namespace alnair::python
