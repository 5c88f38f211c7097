#include "python/probe.h"

#include <pybind11/stl.h>

#include <condition_variable>
#include <mutex>

#include "alnair/core/error.h"
#include "dataset/node.h"
#include "dataset/source_of.h"
#include "python/dataset.h"
#include "python/options.h"
#include "python/text.h"
#include "python/view.h"
#include "python/waiting.h"
#include "redis/client.h"
#include "source/url.h"

namespace py = pybind11;

namespace alnair::python {
namespace {

struct EnoughListed {};  // ends a listing

// The object source itself, without any cache.
class Probe {
 public:
  explicit Probe(const py::dict& options) : named_(source_of(dataset_options(options))) {}

  // The first objects below the datasource's prefixes, as many as a page has: (key, size).
  py::list first_page() const {
    std::vector<std::string> prefixes = named_.scope;
    if (prefixes.empty()) prefixes.emplace_back();
    std::vector<ObjectInfo> found;
    without_gil([&] {
      try {
        named_.source->list(
            prefixes,
            [&](std::vector<ObjectInfo>&& page) {
              found = std::move(page);
              if (!found.empty()) throw EnoughListed();
            },
            interrupt());
      } catch (const EnoughListed&) {
      }
      return 0;
    });
    py::list result;
    for (const auto& object : found) result.append(py::make_tuple(key_text(object.key), object.size));
    return result;
  }

  // The first `length` bytes of an object as it is now; all of it by default.
  py::object read(const py::str& key, std::uint64_t length) const {
    struct Outcome {
      std::mutex mutex;
      std::condition_variable ready;
      bool done = false;
      ReadResult result;
    };
    const auto outcome = std::make_shared<Outcome>();  // outlives this call if it is interrupted
    const std::string name = key_bytes(key);
    View bytes = without_gil([&] {
      const auto object = named_.source->stat(name, interrupt());
      if (!object) throw NotFoundError("there is no object \"" + name + "\" any more");
      named_.source->read({.object = *object, .offset = 0, .length = std::min(length, object->size)}, [outcome](ReadResult r) {
        const std::lock_guard lock(outcome->mutex);
        outcome->result = std::move(r);
        outcome->done = true;
        outcome->ready.notify_one();
      });
      std::unique_lock lock(outcome->mutex);
      while (!outcome->ready.wait_for(lock, std::chrono::milliseconds(100), [&] { return outcome->done; })) {
        lock.unlock();
        interrupt()();
        lock.lock();
      }
      if (outcome->result.error) std::rethrow_exception(outcome->result.error);
      return std::move(outcome->result.bytes);
    });
    return make_view(std::move(bytes));
  }

  void stat(const py::str& key) const {
    const std::string name = key_bytes(key);
    without_gil([&] { return named_.source->stat(name, interrupt()).has_value(); });
  }

 private:
  NamedSource named_;
};

std::string find_credentials(const py::dict& items) {
  const DatasetOptions options = dataset_options(items);
  const std::string bucket = parse_source_url(options.source).bucket;
  return without_gil([&] { return find_s3_credentials(bucket, options.s3, interrupt()); });
}

py::tuple locate(const py::dict& items) {
  const DatasetOptions options = dataset_options(items);
  const std::string bucket = parse_source_url(options.source).bucket;
  const S3Location found = without_gil([&] { return locate_s3_bucket(bucket, options.s3, interrupt()); });
  return py::make_tuple(found.endpoint, found.region);
}

py::dict directories(const py::dict& items) {
  const CacheOptions options = with_default_directories(dataset_options(items).cache);
  py::dict result;
  result["memory_dir"] = key_text(options.memory_dir);
  result["cache_dir"] = key_text(options.cache_dir);
  return result;
}

// Directories, and the usage of each tier; None for a tier that cannot be had (the log says why).
py::dict node(const py::dict& items) {
  const CacheOptions options = with_default_directories(dataset_options(items).cache);
  const auto found = without_gil([&] { return open_node(options); });
  const auto usage = [](const std::shared_ptr<Tier>& tier) -> py::object {
    if (tier == nullptr) return py::none();
    return usage_dict(without_gil([&] { return tier->usage(); }));
  };
  py::dict result = directories(items);
  result["memory"] = usage(found->memory);
  result["disk"] = usage(found->disk);
  result["spill"] = usage(found->spill);
  return result;
}

// What the servers say of themselves; None if no Redis is named. Throws what keeps them from answering.
py::object redis_facts(const py::dict& items) {
  const CacheOptions options = dataset_options(items).cache;
  if (options.redis.empty()) return py::none();
  const redis::ServerFacts facts = without_gil([&] {
    return redis::open(options.redis)->check({.deadline = std::chrono::seconds(5)}, interrupt());
  });
  py::dict result;
  result["servers"] = facts.masters;
  result["version"] = facts.product + " " + facts.version.text();
  result["maxmemory"] = facts.maxmemory;
  result["used_memory"] = facts.used_memory;
  result["policy"] = facts.maxmemory_policy;
  return result;
}

}  // namespace

void register_probe(py::module_& module) {
  py::class_<Probe>(module, "Probe", "A datasource, without any cache.")
      .def(py::init<const py::dict&>(), py::arg("options"))
      .def("first_page", &Probe::first_page)
      .def("stat", &Probe::stat, py::arg("key"))
      .def("read", &Probe::read, py::arg("key"), py::arg("length") = Dataset::kToEnd);
  module.def("find_credentials", &find_credentials, py::arg("options"));
  module.def("locate", &locate, py::arg("options"));
  module.def("directories", &directories, py::arg("options"));
  module.def("node", &node, py::arg("options"));
  module.def("redis_facts", &redis_facts, py::arg("options"));
}

}  // namespace alnair::python
