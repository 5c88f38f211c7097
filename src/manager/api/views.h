// Jobs and datasets as the API shows them. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "alnair/cache/tier.h"
#include "manager/api/api.h"
#include "manager/service/jobs.h"

namespace alnair::manager {

nlohmann::json to_json(const Datasource& source);
nlohmann::json to_json(const JobView& job, const Services& services);
nlohmann::json to_json(const Jobs::DatasetView& dataset);
nlohmann::json to_json(const MissAnswer& answer);
nlohmann::json to_json(const std::optional<TierUsage>& tier);  // null: there is none, or it does not tell

}  // namespace alnair::manager
