#include "python/options.h"

#include <pybind11/stl.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "cache/redis/flush_policy.h"
#include "core/ca_bundle.h"
#include "python/text.h"

namespace py = pybind11;

namespace alnair::python {
namespace {

std::vector<std::string> key_list(py::handle value) {
  std::vector<std::string> keys;
  for (const py::handle item : value) keys.push_back(key_bytes(item));
  return keys;
}

std::shared_ptr<const std::vector<std::byte>> byte_vector(py::handle bytes) {
  const auto text = bytes.cast<std::string_view>();
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  return std::make_shared<const std::vector<std::byte>>(first, first + text.size());
}

EvictionPolicy eviction(py::handle value) {
  const auto name = value.cast<std::string>();
  return name == "lru"      ? EvictionPolicy::kLru
         : name == "s3fifo" ? EvictionPolicy::kS3Fifo
                            : EvictionPolicy::kNone;
}

AddressingStyle addressing(py::handle value) {
  const auto name = value.cast<std::string>();
  return name == "path"      ? AddressingStyle::kPath
         : name == "virtual" ? AddressingStyle::kVirtual
                             : AddressingStyle::kAuto;
}

S3Credentials credentials(py::handle value) {
  const auto [id, secret, token] = value.cast<std::tuple<std::string, std::string, std::string>>();
  return {id, secret, token};
}

using Setter = std::function<void(DatasetOptions&, py::handle)>;

const std::map<std::string, Setter>& setters() {
  static const std::map<std::string, Setter> table = {
      {"source", [](auto& o, auto v) { o.source = key_bytes(v); }},
      {"scope", [](auto& o, auto v) { o.scope = key_list(v); }},
      {"keys", [](auto& o, auto v) { o.keys = key_list(v); }},
      {"version", [](auto& o, auto v) { o.version = key_bytes(v); }},
      {"manifest", [](auto& o, auto v) { o.manifest = byte_vector(v); }},
      {"hashes", [](auto& o, auto v) { o.hashes = byte_vector(v); }},
      {"run", [](auto& o, auto v) { o.run = key_bytes(v); }},
      {"refresh", [](auto& o, auto v) { o.refresh = v.template cast<bool>(); }},
      {"endpoint_url", [](auto& o, auto v) { o.s3.endpoint_url = key_bytes(v); }},
      {"region", [](auto& o, auto v) { o.s3.region = v.template cast<std::string>(); }},
      {"profile", [](auto& o, auto v) { o.s3.profile = key_bytes(v); }},
      {"credentials", [](auto& o, auto v) { o.s3.credentials = credentials(v); }},
      {"anonymous", [](auto& o, auto v) { o.s3.anonymous = v.template cast<bool>(); }},
      {"requester_pays", [](auto& o, auto v) { o.s3.requester_pays = v.template cast<bool>(); }},
      {"addressing_style", [](auto& o, auto v) { o.s3.addressing_style = addressing(v); }},
      {"ca_bundle", [](auto& o, auto v) { o.s3.ca_bundle = key_bytes(v); }},
      {"max_connections", [](auto& o, auto v) { o.s3.max_connections = v.template cast<int>(); }},
      {"hedging", [](auto& o, auto v) { o.s3.hedging = v.template cast<bool>(); }},
      {"usecache", [](auto& o, auto v) { o.cache.use_cache = v.template cast<bool>(); }},
      {"single_pass", [](auto& o, auto v) { o.cache.single_pass = v.template cast<bool>(); }},
      {"cache_dir", [](auto& o, auto v) { o.cache.cache_dir = key_bytes(v); }},
      {"memory_dir", [](auto& o, auto v) { o.cache.memory_dir = key_bytes(v); }},
      {"memory_limit", [](auto& o, auto v) { o.cache.memory_limit = v.template cast<std::uint64_t>(); }},
      {"disk_limit", [](auto& o, auto v) { o.cache.disk_limit = v.template cast<std::uint64_t>(); }},
      {"chunk_size", [](auto& o, auto v) { o.cache.chunk_size = v.template cast<std::uint64_t>(); }},
      {"redis", [](auto& o, auto v) { o.cache.redis = key_bytes(v); }},
      {"miss_socket", [](auto& o, auto v) { o.miss_socket = key_bytes(v); }},
      {"miss_identity", [](auto& o, auto v) { o.miss_identity = key_bytes(v); }},
      {"spill", [](auto& o, auto v) { o.cache.spill = key_list(v); }},
      {"spill_mode", [](auto& o, auto v) { o.cache.spill_mode = v.template cast<std::uint32_t>(); }},
      {"spill_namespace", [](auto& o, auto v) { o.cache.spill_namespace = v.template cast<std::string>(); }},
      {"spill_domain", [](auto& o, auto v) { o.cache.spill_domain = v.template cast<std::string>(); }},
      {"spill_limit", [](auto& o, auto v) { o.cache.spill_limit = v.template cast<std::uint64_t>(); }},
      {"durabilityindisk",
       [](auto& o, auto v) { o.cache.spill_durability = std::chrono::minutes(v.template cast<std::int64_t>()); }},
      {"flush_frequency",
       [](auto& o, auto v) { o.cache.flush_frequency = std::chrono::seconds(v.template cast<int>()); }},
      {"flush_amount", [](auto& o, auto v) { o.cache.flush_amount = v.template cast<std::uint64_t>(); }},
      {"flush_policy",
       [](auto& o, auto v) {
         o.cache.flush_policy = flush_order(v.template cast<std::string>()).value_or(FlushOrder::kRecency);
       }},
      {"flush", [](auto& o, auto v) { o.cache.flush = v.template cast<bool>(); }},
      {"eviction", [](auto& o, auto v) { o.cache.eviction = eviction(v); }},
  };
  return table;
}

// A machine may have Python and no certificates. pip has some with it.
void find_certificates() {
  if (!find_ca_bundle().empty()) return;
  for (const char* package : {"certifi", "pip._vendor.certifi"}) {
    try {
      const auto file = py::module_::import(package).attr("where")().cast<std::string>();
      if (access(file.c_str(), R_OK) == 0) return set_fallback_ca_bundle(file);
    } catch (const py::error_already_set&) {  // there is none
    }
  }
}

}  // namespace

DatasetOptions dataset_options(const py::dict& items) {
  find_certificates();
  DatasetOptions options;
  for (const auto& [name, value] : items) setters().at(name.cast<std::string>())(options, value);
  return options;
}

}  // namespace alnair::python
