// Text between Python and the library. Object keys are bytes: UTF-8 nearly always, and what is not survives
// the way to Python and back as surrogate escapes, as file names do.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <string_view>

namespace alnair::python {

inline pybind11::str key_text(std::string_view key) {
  PyObject* text = PyUnicode_DecodeUTF8(key.data(), static_cast<Py_ssize_t>(key.size()), "surrogateescape");
  if (text == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::str>(text);
}

inline std::string key_bytes(pybind11::handle text) {
  if (!PyUnicode_Check(text.ptr()))
    throw pybind11::type_error(std::string("expected str, not ") + Py_TYPE(text.ptr())->tp_name);
  PyObject* bytes = PyUnicode_AsEncodedString(text.ptr(), "utf-8", "surrogateescape");
  if (bytes == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::bytes>(bytes);
}

// For people: what is no UTF-8 becomes a replacement character.
inline pybind11::str message_text(std::string_view message) {
  PyObject* text = PyUnicode_DecodeUTF8(message.data(), static_cast<Py_ssize_t>(message.size()), "replace");
  if (text == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::str>(text);
}

}  // namespace alnair::python
