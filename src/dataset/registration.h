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

// `scope` has the datasource's entries, the path of the source URL included.
// Throws as Dataset::open().
Registration register_dataset(Node& node, ObjectSource& source, const DatasetOptions& options,
                              const std::vector<std::string>& scope, const ListProgress& progress,
                              const Interrupt& interrupt);

}  // namespace alnair
