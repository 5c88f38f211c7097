// Finds out which objects make up a dataset version: by listing the source and comparing, or from the catalog.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "alnair/dataset/dataset.h"
#include "dataset/node.h"

namespace alnair {

struct Registration {
  std::string dataset;  // the catalog's name for it
  std::shared_ptr<const Manifest> manifest;
  std::vector<std::string> warnings;
};

// The catalog's name for the objects that `scope` and `keys` select. Pure.
std::string dataset_name(const ObjectSource& source, std::vector<std::string> scope, std::vector<std::string> keys);

// By which tiers know that dataset. Pure.
DatasetTag dataset_tag(const std::string& dataset);

// `scope` has the datasource's entries, the path of the source URL included.
// Throws as Dataset::open().
Registration register_dataset(Node& node, ObjectSource& source, const DatasetOptions& options,
                              const std::vector<std::string>& scope, const ListProgress& progress,
                              const Interrupt& interrupt);

}  // namespace alnair
