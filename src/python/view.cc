// A type of its own, not pybind11's: it is made once a sample, and costs 60 ns instead of 600.
#include "python/view.h"

#include <cstring>
#include <new>
#include <utility>

namespace py = pybind11;

namespace alnair::python {
namespace {

constexpr std::uint64_t kCopyWithoutGil =
    1 << 20;  // bytes; below, handing the GIL over costs more than it gives

// `bytes` is what was read. `own` is made when somebody asks for a buffer to write to while writing to
// `bytes` could reach others. Both live as long as the object: buffers over either may be held.
struct PyView {
  PyObject_HEAD View bytes;
  View own;
};

PyTypeObject* g_type = nullptr;

PyView* as_view(PyObject* self) { return reinterpret_cast<PyView*>(self); }

View private_copy(const View& view) {
  Buffer copy(view.size());
  if (view.size() > 0) std::memcpy(copy.data(), view.data(), view.size());
  return std::move(copy).freeze();
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  as_view(self)->bytes.~View();
  as_view(self)->own.~View();
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* not_constructible(PyTypeObject*, PyObject*, PyObject*) {
  PyErr_SetString(PyExc_TypeError, "a View is made by reading a dataset");
  return nullptr;
}

int get_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  PyView* view = as_view(self);
  const bool to_write = (flags & PyBUF_WRITABLE) == PyBUF_WRITABLE;
  if (to_write && !view->bytes.is_private() && view->own.data() == nullptr) {
    try {
      view->own = private_copy(view->bytes);
    } catch (const std::bad_alloc&) {
      PyErr_NoMemory();
      return -1;
    }
  }
  const bool own = view->own.data() != nullptr;
  const View& source = own ? view->own : view->bytes;
  static char nothing = 0;  // an empty buffer still needs an address
  void* data = source.size() == 0 ? static_cast<void*>(&nothing) : const_cast<std::byte*>(source.data());
  const bool readonly = !own && !view->bytes.is_private();
  return PyBuffer_FillInfo(buffer, self, data, static_cast<Py_ssize_t>(source.size()), readonly, flags);
}

Py_ssize_t length(PyObject* self) { return static_cast<Py_ssize_t>(as_view(self)->bytes.size()); }

const View& current(PyObject* self) {
  PyView* view = as_view(self);
  return view->own.data() != nullptr ? view->own : view->bytes;
}

PyObject* to_bytes(PyObject* self, PyObject*) {
  const View view = current(self);
  PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(view.size()));
  if (bytes == nullptr || view.size() == 0) return bytes;
  char* target = PyBytes_AS_STRING(bytes);
  if (view.size() < kCopyWithoutGil) {
    std::memcpy(target, view.data(), view.size());
  } else {
    const py::gil_scoped_release release;
    std::memcpy(target, view.data(), view.size());
  }
  return bytes;
}

// A View pickles as what it holds: bytes.
PyObject* reduce(PyObject* self, PyObject*) {
  PyObject* bytes = to_bytes(self, nullptr);
  return bytes == nullptr ? nullptr : Py_BuildValue("(O(N))", &PyBytes_Type, bytes);
}

PyObject* subscript(PyObject* self, PyObject* key) {
  PyObject* memory = PyMemoryView_FromObject(self);
  if (memory == nullptr) return nullptr;
  PyObject* item = PyObject_GetItem(memory, key);
  Py_DECREF(memory);
  return item;
}

PyObject* compare(PyObject* self, PyObject* other, int operation) {
  if ((operation != Py_EQ && operation != Py_NE) || !PyObject_CheckBuffer(other)) Py_RETURN_NOTIMPLEMENTED;
  Py_buffer buffer;
  if (PyObject_GetBuffer(other, &buffer, PyBUF_SIMPLE) != 0) return nullptr;
  const View& view = current(self);
  const auto size = static_cast<std::uint64_t>(buffer.len);
  const bool equal = size == view.size() && (size == 0 || std::memcmp(buffer.buf, view.data(), size) == 0);
  PyBuffer_Release(&buffer);
  return PyBool_FromLong(equal == (operation == Py_EQ));
}

PyObject* repr(PyObject* self) { return PyUnicode_FromFormat("<alnair.View of %zd bytes>", length(self)); }

PyMethodDef methods[] = {
    {"__bytes__", to_bytes, METH_NOARGS, "A copy as bytes."},
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
         "Bytes of the cache, without a copy: torch.frombuffer(view, dtype=torch.uint8),\n"
         "numpy.frombuffer(view, numpy.uint8), io.BytesIO(view), bytes(view).\n\n"
         "They stay valid as long as somebody holds the view or a buffer over it, even if the cache evicts\n"
         "them meanwhile. What is written to them stays in this process. Pickles as bytes.")},
    {Py_tp_new, slot(not_constructible)},
    {Py_tp_dealloc, slot(dealloc)},
    {Py_tp_repr, slot(repr)},
    {Py_tp_hash, slot(PyObject_HashNotImplemented)},
    {Py_tp_richcompare, slot(compare)},
    {Py_tp_methods, methods},
    {Py_bf_getbuffer, slot(get_buffer)},
    {Py_sq_length, slot(length)},
    {Py_mp_length, slot(length)},
    {Py_mp_subscript, slot(subscript)},
    {0, nullptr},
};
PyType_Spec spec = {"alnair._core.View", sizeof(PyView), 0, Py_TPFLAGS_DEFAULT, slots};

}  // namespace

void register_view(py::module_& module) {
  g_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (g_type == nullptr) throw py::error_already_set();
  module.add_object("View", reinterpret_cast<PyObject*>(g_type));
}

py::object make_view(View view) {
  PyObject* self = g_type->tp_alloc(g_type, 0);
  if (self == nullptr) throw py::error_already_set();
  new (&as_view(self)->bytes) View(std::move(view));
  new (&as_view(self)->own) View();
  return py::reinterpret_steal<py::object>(self);
}

}  // namespace alnair::python
