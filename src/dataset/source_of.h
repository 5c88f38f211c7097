// The object source that options name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "alnair/dataset/dataset.h"
#include "http/request_slots.h"

namespace alnair {

struct NamedSource {
  std::shared_ptr<ObjectSource> source;
  std::vector<std::string> scope;  // entries that the datasource consists of; empty: everything
};

// Opens it; touches no network. `slots`: as for open_s3_source_sharing(). Throws ConfigError.
NamedSource source_of(const DatasetOptions& options, std::shared_ptr<RequestSlots> slots = nullptr);

}  // namespace alnair
