// What stands in for records/mongodb/ in a program that is built without libmongoc.
#include "alnair/core/error.h"
#include "manager/records/records.h"

namespace alnair::manager {

std::unique_ptr<Records> open_mongodb_records(const std::string&, const MongodbOptions&, const Patience&) {
  throw ConfigError(
      "[mongodb] uri: this alnair-manager was built without MongoDB. Build it again where libmongoc-dev is installed "
      "(cmake/install-dependencies manager), or leave the uri out for SQLite");
}

}  // namespace alnair::manager
