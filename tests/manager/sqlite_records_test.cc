#include <gmock/gmock.h>

#include <fstream>

#include "alnair/core/error.h"
#include "catalog/sqlite.h"
#include "manager/records_contract.h"
#include "support/temporary_directory.h"

namespace alnair::manager {
namespace testing {

using ::alnair::testing::TemporaryDirectory;

struct SqliteFixture {
  TemporaryDirectory directory;
  std::unique_ptr<Records> open() { return open_sqlite_records(directory.path()); }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Sqlite, RecordsContract, SqliteFixture);

std::string error_of(const TemporaryDirectory& directory) {
  try {
    open_sqlite_records(directory.path());
  } catch (const CacheError& error) {
    return error.what();
  }
  return "(no CacheError)";
}

TEST(SqliteRecords, BelongToOneManagerAtATime) {
  const TemporaryDirectory directory;
  auto first = open_sqlite_records(directory.path());
  EXPECT_THAT(error_of(directory), ::testing::HasSubstr(directory / "manager.lock"));
  first.reset();
  EXPECT_EQ(error_of(directory), "(no CacheError)");
}

TEST(SqliteRecords, ADamagedFileIsRefusedAndKept) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "records.sqlite") << std::string(8192, 'x');
  EXPECT_THAT(error_of(directory), ::testing::AllOf(::testing::HasSubstr(directory / "records.sqlite"),
                                                    ::testing::HasSubstr("Restore it from a backup")));
  EXPECT_EQ(std::filesystem::file_size(directory / "records.sqlite"), 8192u);
}

TEST(SqliteRecords, AFileOfANewerVersionIsRefused) {
  const TemporaryDirectory directory;
  open_sqlite_records(directory.path());
  SqliteConnection(directory / "records.sqlite").run("PRAGMA user_version=99");
  EXPECT_THAT(error_of(directory), ::testing::HasSubstr("is of version 99"));
}

}  // namespace testing
}  // namespace alnair::manager
