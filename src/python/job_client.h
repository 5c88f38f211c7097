// alnair._core.JobClient: a job's registration with a manager; UseReporter: of one that a daemon has registered.
#pragma once

#include <pybind11/pybind11.h>

namespace alnair::python {

void register_job_client(pybind11::module_& module);

}  // namespace alnair::python
