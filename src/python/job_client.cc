#include "python/job_client.h"

#include <pybind11/stl.h>

#include <chrono>
#include <string>

#include "alnair/dataset/job_client.h"
#include "cache/redis/flush_policy.h"
#include "dataset/job/password_file.h"
#include "dataset/job/use_reporter.h"
#include "python/text.h"

namespace py = pybind11;

namespace alnair::python {
namespace {

using std::chrono::milliseconds;

milliseconds from_seconds(double seconds) { return milliseconds(static_cast<std::int64_t>(seconds * 1000)); }

std::shared_ptr<JobClient> start(const std::string& url, const std::string& username, const std::string& password,
                                 const std::string& ca_bundle, const py::object& credentials, const std::string& region,
                                 const std::string& endpoint_url, const std::string& name, const std::string& node,
                                 const std::string& bucket, const py::iterable& keys, const py::dict& qos,
                                 const std::string& tls_cert, const std::string& tls_key) {
  ManagerOptions manager{url, username, password, ca_bundle, std::nullopt, region, endpoint_url, tls_cert, tls_key};
  if (!credentials.is_none()) {
    const auto [id, secret, token] = credentials.cast<std::tuple<std::string, std::string, std::string>>();
    manager.s3_credentials = S3Credentials{id, secret, token};
  }
  JobOptions job{.name = name, .node = node, .bucket = bucket};
  for (const py::handle key : keys) job.keys.push_back(key_bytes(key));
  job.usecache = qos["usecache"].cast<bool>();
  job.maxmemory = qos["maxmemory"].cast<std::uint64_t>();
  job.durabilityindisk = qos["durabilityindisk"].cast<std::uint64_t>();
  job.lazyloading = qos["lazyloading"].cast<bool>();
  job.single_pass = qos["single_pass"].cast<bool>();
  const py::gil_scoped_release release;
  return JobClient::start(manager, job);
}

py::object bytes_or_none(const std::shared_ptr<const std::vector<std::byte>>& bytes) {
  if (bytes == nullptr) return py::none();
  return py::bytes(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

py::dict status_dict(const JobStatus& status) {
  py::dict result;
  result["state"] = status.state;
  result["detail"] = status.detail;
  result["version"] = status.version;
  result["objects"] = status.objects;
  result["bytes"] = status.bytes;
  result["redis"] =
      status.redis_password_file.empty() ? status.redis : with_password_file(status.redis, status.redis_password_file);
  result["flush_policy"] = name_of(status.flush_policy);
  result["directory"] = status.directory;
  result["directory_mode"] = status.directory_mode;
  result["namespace"] = status.key_namespace;
  result["domain"] = status.domain;
  result["chunk_size"] = status.chunk_size;
  result["manifest"] = bytes_or_none(status.manifest);
  result["hashes"] = bytes_or_none(status.hashes);
  return result;
}

}  // namespace

void register_job_client(py::module_& module) {
  module.def("with_password_file", &with_password_file, py::arg("redis_url"), py::arg("path"));
  py::class_<JobClient, std::shared_ptr<JobClient>>(module, "JobClient")
      .def(py::init(&start), py::kw_only(), py::arg("url"), py::arg("username"), py::arg("password"),
           py::arg("ca_bundle"), py::arg("credentials"), py::arg("region"), py::arg("endpoint_url"), py::arg("name"),
           py::arg("node"), py::arg("bucket"), py::arg("keys"), py::arg("qos"),
           py::arg("tls_cert") = "", py::arg("tls_key") = "")
      .def("wait",
           [](const JobClient& self, double seconds) {
             JobStatus status;
             {
               const py::gil_scoped_release release;
               status = self.wait(from_seconds(seconds));
             }
             return status_dict(status);
           })
      .def(
          "close", [](JobClient& self, double seconds) { self.close(from_seconds(seconds)); },
          py::call_guard<py::gil_scoped_release>());
  py::class_<UseReporter, std::shared_ptr<UseReporter>>(module, "UseReporter")
      .def(py::init(&UseReporter::start), py::arg("socket"))
      .def(
          "close", [](UseReporter& self, double) { self.close(); }, py::call_guard<py::gil_scoped_release>());
}

}  // namespace alnair::python
