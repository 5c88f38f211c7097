// The SQLite catalog at a known place, for open_sqlite_catalog() and for tests of what file systems can do.
#pragma once

#include <memory>

#include "alnair/catalog/catalog.h"
#include "catalog/catalog_file.h"

namespace alnair {

std::unique_ptr<Catalog> make_sqlite_catalog(CatalogLocation location);

// The folder of this host in a directory of a network file system, made if missing. Folders of hosts that
// have not used theirs for a month (containers' names come and go) are removed. Throws CacheError.
std::string open_host_folder(const std::string& directory, const std::string& host);

}  // namespace alnair
