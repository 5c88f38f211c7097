// A handle is a pair (source, index), 32 bytes: a dataset of a million objects may hold a million of them.
// `source` is a Python object with the methods key(index), size_of(index) and read(index).
#include "python/handle.h"

#include <cstddef>
#include <cstdint>

#include <structmember.h>

namespace py = pybind11;

namespace alnair::python {
namespace {

struct PyHandle {
  PyObject_HEAD PyObject* source;
  unsigned long long index;
};

PyTypeObject* g_type = nullptr;

PyHandle* as_handle(PyObject* self) { return reinterpret_cast<PyHandle*>(self); }

PyObject* make(PyTypeObject* type, PyObject* source, unsigned long long index) {
  PyObject* self = type->tp_alloc(type, 0);
  if (self == nullptr) return nullptr;
  Py_INCREF(source);
  as_handle(self)->source = source;
  as_handle(self)->index = index;
  return self;
}

PyObject* construct(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* source = nullptr;
  unsigned long long index = 0;
  if (!PyArg_ParseTuple(args, "OK:Handle", &source, &index)) return nullptr;
  return make(type, source, index);
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(as_handle(self)->source);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* ask(PyObject* self, const char* method) {
  return PyObject_CallMethod(as_handle(self)->source, method, "K", as_handle(self)->index);
}

PyObject* get_key(PyObject* self, void*) { return ask(self, "key"); }
PyObject* get_size(PyObject* self, void*) { return ask(self, "size_of"); }

int get_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  PyObject* view = ask(self, "read");
  if (view == nullptr) return -1;
  const int result = PyObject_GetBuffer(view, buffer, flags);  // the buffer holds the view
  Py_DECREF(view);
  return result;
}

// Has nothing to release, but must be there: numpy.frombuffer then holds the buffer, and with it the view. Of a type without it, it
// holds the object alone that it asked.
void release_buffer(PyObject*, Py_buffer*) {}

PyObject* to_bytes(PyObject* self, PyObject*) {
  PyObject* view = ask(self, "read");
  if (view == nullptr) return nullptr;
  PyObject* bytes = PyObject_Bytes(view);
  Py_DECREF(view);
  return bytes;
}

PyObject* reduce(PyObject* self, PyObject*) {
  return Py_BuildValue("(O(OK))", Py_TYPE(self), as_handle(self)->source, as_handle(self)->index);
}

PyObject* compare(PyObject* self, PyObject* other, int operation) {
  if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(other) != Py_TYPE(self)) Py_RETURN_NOTIMPLEMENTED;
  const bool equal = as_handle(self)->source == as_handle(other)->source &&
                     as_handle(self)->index == as_handle(other)->index;
  return PyBool_FromLong(equal == (operation == Py_EQ));
}

Py_hash_t hash(PyObject* self) { return static_cast<Py_hash_t>(as_handle(self)->index & 0x7fffffffffffffff); }

PyObject* repr(PyObject* self) {
  PyObject* key = get_key(self, nullptr);
  if (key == nullptr) return nullptr;
  PyObject* text = PyUnicode_FromFormat("<alnair.Handle %R>", key);
  Py_DECREF(key);
  return text;
}

PyMemberDef members[] = {
    {"source", T_OBJECT_EX, offsetof(PyHandle, source), READONLY, nullptr},
    {"index", T_ULONGLONG, offsetof(PyHandle, index), READONLY, "The object's place in the manifest."},
    {nullptr, 0, 0, 0, nullptr},
};
PyGetSetDef properties[] = {
    {"key", get_key, nullptr, "The object's full key.", nullptr},
    {"size", get_size, nullptr, "The object's size in bytes.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};
PyMethodDef methods[] = {
    {"__bytes__", to_bytes, METH_NOARGS, "Reads the object."},
    {"__reduce__", reduce, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

template <typename Function>
void* slot(Function* function) {
  return reinterpret_cast<void*>(function);
}

PyType_Slot slots[] = {
    {Py_tp_doc,
     const_cast<char*>(
         "An object of a dataset that is not read yet. dataset.load(handle) reads it; so does anything that\n"
         "takes a buffer: bytes(handle), io.BytesIO(handle), numpy.frombuffer(handle, numpy.uint8).")},
    {Py_tp_new, slot(construct)},
    {Py_tp_dealloc, slot(dealloc)},
    {Py_tp_repr, slot(repr)},
    {Py_tp_hash, slot(hash)},
    {Py_tp_richcompare, slot(compare)},
    {Py_tp_members, members},
    {Py_tp_getset, properties},
    {Py_tp_methods, methods},
    {Py_bf_getbuffer, slot(get_buffer)},
    {Py_bf_releasebuffer, slot(release_buffer)},
    {0, nullptr},
};
PyType_Spec spec = {"alnair._core.Handle", sizeof(PyHandle), 0, Py_TPFLAGS_DEFAULT, slots};

// The indices of a list of this source's handles, as array('Q') data; None when anything else is in it.
py::object indices_of(py::object source, const py::list& values) {
  py::bytes packed(nullptr, values.size() * sizeof(std::uint64_t));
  auto* out = reinterpret_cast<std::uint64_t*>(PyBytes_AS_STRING(packed.ptr()));
  for (const py::handle value : values) {
    if (Py_TYPE(value.ptr()) != g_type || as_handle(value.ptr())->source != source.ptr()) return py::none();
    *out++ = as_handle(value.ptr())->index;
  }
  return packed;
}

}  // namespace

void register_handle(py::module_& module) {
  g_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (g_type == nullptr) throw py::error_already_set();
  module.add_object("Handle", reinterpret_cast<PyObject*>(g_type));
  module.def("handle_indices", &indices_of, py::arg("source"), py::arg("values"),
             "The indices of a list of handles of `source`, packed as 64-bit integers; None if it holds "
             "anything else.");
}

}  // namespace alnair::python
