#include "python/dataset.h"

#include <pybind11/stl.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "alnair/dataset/dataset.h"
#include "dataset/node.h"
#include "dataset/shared_bytes.h"
#include "python/errors.h"
#include "python/options.h"
#include "python/text.h"
#include "python/view.h"
#include "python/waiting.h"

namespace py = pybind11;

namespace alnair::python {
namespace {

// Indices from anything Python has: a buffer of 64-bit integers (array, numpy, memoryview), else a sequence
// of ints.
std::vector<std::uint64_t> to_indices(py::handle values) {
  std::vector<std::uint64_t> indices;
  if (PyObject_CheckBuffer(values.ptr())) {
    const py::buffer_info info = py::reinterpret_borrow<py::buffer>(values).request();
    if (info.itemsize != 8 || info.ndim != 1 || info.strides[0] != 8 ||
        info.format.find_first_of("qQlL") == info.format.npos)
      throw py::type_error("indices must be 64-bit integers without gaps");
    indices.resize(static_cast<std::size_t>(info.shape[0]));
    if (!indices.empty()) std::memcpy(indices.data(), info.ptr, indices.size() * sizeof(std::uint64_t));
    return indices;
  }
  const auto sequence =
      py::reinterpret_steal<py::object>(PySequence_Fast(values.ptr(), "indices must be a sequence"));
  if (!sequence) throw py::error_already_set();
  const Py_ssize_t size = PySequence_Fast_GET_SIZE(sequence.ptr());
  indices.reserve(static_cast<std::size_t>(size));
  for (Py_ssize_t i = 0; i < size; ++i) {
    const auto number =
        py::reinterpret_steal<py::object>(PyNumber_Index(PySequence_Fast_GET_ITEM(sequence.ptr(), i)));
    if (!number) throw py::error_already_set();
    indices.push_back(PyLong_AsUnsignedLongLong(number.ptr()));
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  }
  return indices;
}

// Lets go of the dataset without the GIL: its destructor joins threads.
class Holder {
 public:
  Holder(std::shared_ptr<Dataset> dataset, const CacheOptions& cache)
      : cache_(with_default_directories(cache)), dataset_(std::move(dataset)) {}
  ~Holder() {
    const py::gil_scoped_release release;
    dataset_.reset();
  }
  Dataset& operator*() const { return *dataset_; }
  Dataset* operator->() const { return dataset_.get(); }
  const Manifest& manifest() const { return dataset_->manifest(); }
  std::uint64_t chunk_size() const { return cache_.chunk_size; }
  py::object on_wait = py::none();  // called with the seconds that a read has waited; None: it is over

  std::string share_directory() const { return open_node(cache_)->share_directory; }

 private:
  const CacheOptions cache_;
  std::shared_ptr<Dataset> dataset_;
};

std::unique_ptr<Holder> open_dataset(const py::dict& items, const py::object& progress) {
  const DatasetOptions options = dataset_options(items);
  std::atomic<std::uint64_t> objects{0}, bytes{0};
  const auto count = [&](std::uint64_t objects_now,
                         std::uint64_t bytes_now) {  // on any thread, without the GIL
    objects = objects_now;
    bytes = bytes_now;
  };
  const auto tick = [&] {
    if (!progress.is_none()) progress(objects.load(), bytes.load());
  };
  return std::make_unique<Holder>(
      without_gil([&] { return Dataset::open(options, count, interrupt_with(tick)); }), options.cache);
}

// One call that may block: after two seconds Holder::on_wait is told every 100 ms for how long, and None at the end.
class Wait {
 public:
  explicit Wait(const Holder& dataset) : on_wait_(dataset.on_wait) {}
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;
  ~Wait() {
    if (!told_) return;
    try {
      on_wait_(py::none());
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("alnair: the end of a wait");
    }
  }
  // Lives no longer than this object.
  Interrupt interrupt() {
    return interrupt_with([this] {
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - started_;
      if (waited < std::chrono::seconds(2) || on_wait_.is_none()) return;
      told_ = true;
      on_wait_(waited.count());
    });
  }

 private:
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  const py::object on_wait_;
  bool told_ = false;
};

py::object read(const Holder& dataset, std::uint64_t index, std::uint64_t offset,
                std::optional<std::uint64_t> length) {
  Wait wait(dataset);
  return make_view(without_gil(
      [&] { return dataset->read(index, offset, length.value_or(Dataset::kToEnd), wait.interrupt()); }));
}

py::list read_batch(const Holder& dataset, const py::object& indices) {
  const auto wanted = to_indices(indices);
  Wait wait(dataset);
  auto samples = without_gil([&] { return dataset->read_batch(wanted, wait.interrupt()); });
  py::list result(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    py::object item =
        samples[i].error ? exception_for(samples[i].error) : make_view(std::move(samples[i].bytes));
    PyList_SET_ITEM(result.ptr(), static_cast<Py_ssize_t>(i), item.release().ptr());
  }
  return result;
}

py::list keys(const Holder& dataset, std::uint64_t start, std::uint64_t stop) {
  py::list result;
  for (std::uint64_t i = start; i < stop; ++i) result.append(key_text(dataset.manifest().key(i)));
  return result;
}

py::bytes sizes(const Holder& dataset, std::uint64_t start, std::uint64_t stop) {
  std::vector<std::uint64_t> result;
  for (std::uint64_t i = start; i < stop; ++i) result.push_back(dataset.manifest().object_size(i));
  return {reinterpret_cast<const char*>(result.data()), result.size() * sizeof(std::uint64_t)};
}

// The indices of a list of keys, packed; None when something else is in it. Keys in the manifest's order, the usual case,
// are not searched for.
py::object find_all(const Holder& dataset, const py::list& values) {
  const Manifest& manifest = dataset.manifest();
  py::bytes packed(nullptr, values.size() * sizeof(std::uint64_t));
  auto* out = reinterpret_cast<std::uint64_t*>(PyBytes_AS_STRING(packed.ptr()));
  std::uint64_t next = 0;
  for (const py::handle value : values) {
    if (!PyUnicode_Check(value.ptr())) return py::none();
    const std::string key = key_bytes(value);
    if (next >= manifest.size() || manifest.key(next) != key) {
      const auto found = manifest.find(key);
      if (!found) return py::none();
      next = *found;
    }
    *out++ = next++;
  }
  return packed;
}

py::str lend(const Holder& dataset, const py::buffer& values) {
  const py::buffer_info info = values.request();
  const std::span bytes(static_cast<const std::byte*>(info.ptr), static_cast<std::size_t>(info.size * info.itemsize));
  return without_gil([&] { return lend_bytes(dataset.share_directory(), bytes); });
}

py::object lent(const Holder& dataset, const std::string& name) {
  View view = without_gil([&] { return lent_bytes(dataset.share_directory(), name); });
  return view.empty() ? py::none() : make_view(std::move(view));
}

}  // namespace

py::dict usage_dict(const TierUsage& tier) {
  py::dict result;
  result["used_bytes"] = tier.used_bytes;
  result["limit_bytes"] = tier.limit_bytes;
  result["chunks"] = tier.chunks;
  result["transit_bytes"] = tier.transit_bytes;
  return result;
}

void register_dataset(py::module_& module) {
  py::class_<Holder>(module, "Dataset",
                     "A dataset, opened at one version. All methods may be called from any thread.")
      .def_property_readonly("version", [](const Holder& d) { return d->version(); })
      .def_property_readonly("warnings",
                             [](const Holder& d) {
                               py::list result;
                               for (const auto& text : d->warnings()) result.append(message_text(text));
                               return result;
                             })
      .def("manifest_blob",
           [](const Holder& d) {
             const auto blob = without_gil([&] { return d->manifest_blob(); });
             return py::bytes(reinterpret_cast<const char*>(blob.data()), blob.size());
           })
      .def("__len__", [](const Holder& d) { return d.manifest().size(); })
      .def_readwrite("on_wait", &Holder::on_wait)
      .def_property_readonly("chunk_size", &Holder::chunk_size)
      .def_property_readonly("total_bytes", [](const Holder& d) { return d.manifest().total_bytes(); })
      .def(
          "key", [](const Holder& d, std::uint64_t i) { return key_text(d.manifest().key(i)); },
          py::arg("index"))
      .def("keys", &keys, py::arg("start"), py::arg("stop"))
      .def(
          "size_of", [](const Holder& d, std::uint64_t i) { return d.manifest().object_size(i); },
          py::arg("index"))
      .def("sizes", &sizes, py::arg("start"), py::arg("stop"), "Sizes, packed as 64-bit integers.")
      .def(
          "find", [](const Holder& d, const py::str& key) { return d.manifest().find(key_bytes(key)); },
          py::arg("key"), "The index of the object of that key, or None.")
      .def("find_all", &find_all, py::arg("keys"),
           "The indices of a list of keys, packed as 64-bit integers; None if it holds anything else.")
      .def("lend", &lend, py::arg("values"), "Lends bytes to other processes of this node: their name, or \"\".")
      .def("lent", &lent, py::arg("name"), "The bytes of that name; None if there are none any more.")
      .def("read", &read, py::arg("index"), py::arg("offset") = 0, py::arg("length") = py::none())
      .def(
          "read_ahead",
          [](const Holder& d, std::uint64_t index, std::uint64_t offset, std::uint64_t length) {
            d->read_ahead(index, offset, length);
          },
          py::arg("index"), py::arg("offset"), py::arg("length"), py::call_guard<py::gil_scoped_release>())
      .def("read_batch", &read_batch, py::arg("indices"),
           "Whole objects, fetched at once: for each index a View, or the error.")
      .def(
          "prefetch",
          [](const Holder& d, const py::object& order, std::uint64_t budget, bool for_this_process) {
            auto wanted = to_indices(order);
            const py::gil_scoped_release release;
            d->prefetch(std::move(wanted), budget, for_this_process);
          },
          py::arg("order"), py::arg("budget_bytes") = 0, py::arg("for_this_process") = false)
      .def(
          "prefetch_extend",
          [](const Holder& d, const py::object& more) {
            const auto wanted = to_indices(more);
            const py::gil_scoped_release release;
            d->prefetch_extend(wanted);
          },
          py::arg("more"))
      .def(
          "prefetch_advance",
          [](const Holder& d, std::uint64_t consumed, std::uint64_t drawn) { d->prefetch_advance(consumed, drawn); },
          py::arg("consumed"), py::arg("drawn") = 0, py::call_guard<py::gil_scoped_release>())
      .def(
          "prefetch_cancel", [](const Holder& d) { d->prefetch_cancel(); },
          py::call_guard<py::gil_scoped_release>())
      .def(
          "flush", [](const Holder& d) { d->flush(); }, py::call_guard<py::gil_scoped_release>())
      .def("memory_usage", [](const Holder& d) { return usage_dict(d->memory_usage()); })
      .def("disk_usage", [](const Holder& d) { return usage_dict(d->disk_usage()); })
      .def("spill_usage", [](const Holder& d) { return usage_dict(d->spill_usage()); });
  module.def("open", &open_dataset, py::arg("options"), py::arg("progress") = py::none(),
             "Lists and registers a dataset, or opens a known one. `progress(objects, bytes)` is called "
             "while it waits.");
}

}  // namespace alnair::python
