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

}  // namespace alnair::manager
