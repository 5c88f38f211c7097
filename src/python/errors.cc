#include "python/errors.h"

#include <new>
#include <stdexcept>

#include "alnair/core/error.h"
#include "python/text.h"

namespace py = pybind11;

namespace alnair::python {
namespace {

// The name of the class in alnair.errors; null: none of ours.
const char* class_name(const std::exception& error) {
  if (dynamic_cast<const ConfigError*>(&error)) return "ConfigError";
  if (dynamic_cast<const AccessError*>(&error)) return "AccessError";
  if (dynamic_cast<const NotFoundError*>(&error)) return "NotFoundError";
  if (dynamic_cast<const ChangedError*>(&error)) return "ChangedError";
  if (dynamic_cast<const SourceError*>(&error)) return "SourceError";
  if (dynamic_cast<const TimeoutError*>(&error)) return "TimeoutError";
  if (dynamic_cast<const CacheError*>(&error)) return "CacheError";
  if (dynamic_cast<const CancelledError*>(&error)) return "CancelledError";
  if (dynamic_cast<const Error*>(&error)) return "Error";
  if (dynamic_cast<const std::out_of_range*>(&error)) return "OutOfRangeError";
  return nullptr;
}

py::object make(const char* name, const char* message) {
  return py::module_::import("alnair.errors").attr(name)(message_text(message));
}

}  // namespace

py::object exception_for(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (py::error_already_set& raised) {
    return raised.value();
  } catch (const std::bad_alloc&) {
    return py::reinterpret_borrow<py::object>(PyExc_MemoryError)("out of memory");
  } catch (const std::exception& failure) {
    const char* name = class_name(failure);
    return make(name == nullptr ? "Error" : name, failure.what());
  } catch (...) {
    return make("Error", "unknown failure");
  }
}

void register_errors() {
  py::register_exception_translator([](std::exception_ptr pending) {
    try {
      if (pending) std::rethrow_exception(pending);
    } catch (const std::exception& failure) {
      const char* name = class_name(failure);
      if (name == nullptr) throw;  // pybind11 knows the rest
      const py::object exception = make(name, failure.what());
      PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
    }
  });
}

}  // namespace alnair::python
