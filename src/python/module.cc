// The module alnair._core: what Python needs of the library. One file a concept; alnair/_core.pyi has the
// types.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>

#include "core/log.h"
#include "core/metrics.h"
#include "python/dataset.h"
#include "python/errors.h"
#include "python/handle.h"
#include "python/job_client.h"
#include "python/log_bridge.h"
#include "python/probe.h"
#include "python/view.h"

namespace py = pybind11;

namespace alnair::python {
namespace {

py::dict stats() {
  py::dict result;
  for (const auto& [name, value] : metrics().snapshot())
    result[py::str(name)] = static_cast<std::int64_t>(std::llround(value));
  return result;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ library behind the package alnair. Not for direct use.";
  module.attr("__version__") = ALNAIR_VERSION;
  register_errors();
  register_view(module);
  register_handle(module);
  register_dataset(module);
  register_job_client(module);
  register_probe(module);
  module.def("stats", &stats);
  module.def("metrics_path", &metrics_path);
  module.def("attach_metrics", &attach_metrics, py::arg("path"));
  module.def(
      "set_log_level", [](int level) { set_log_level(static_cast<LogLevel>(level)); }, py::arg("level"),
      "0 debug, 1 info, 2 warning, 3 error, 4 off");
  module.def("deliver_log_messages", &deliver_log_messages);
  install_log_bridge();
}

}  // namespace alnair::python
