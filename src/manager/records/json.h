// Parts of records as JSON, the same in records and in the API. Pure.
#pragma once

#include <nlohmann/json.hpp>

#include "manager/records/records.h"

namespace alnair::manager {

inline nlohmann::json to_json(const Qos& qos) {
  return {{"usecache", qos.usecache},
          {"maxmemory", qos.maxmemory},
          {"durabilityindisk", qos.durabilityindisk},
          {"lazyloading", qos.lazyloading}};
}

inline nlohmann::json to_json(const Quota& quota) {
  return {{"cached_bytes", quota.cached_bytes}, {"s3_requests_per_second", quota.s3_requests_per_second}};
}

inline nlohmann::json to_json(const ChunkUse& use) {
  nlohmann::json hits = nlohmann::json::object();
  for (std::size_t i = 0; i < kUsageTiers.size(); ++i) hits[std::string(kUsageTiers[i])] = use.hits[i];
  return {{"reads", use.reads}, {"stalled_s", use.stalled_s}, {"s3_requests", use.s3_requests}, {"hits", std::move(hits)}};
}

}  // namespace alnair::manager
