#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>

#include "alnair/core/error.h"
#include "catalog/sqlite.h"
#include "manager/records_contract.h"
#include "support/temporary_directory.h"

namespace alnair::manager {
namespace testing {

using ::alnair::testing::TemporaryDirectory;

struct SqliteFixture {
  static bool available() { return true; }
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

TEST(SqliteRecords, ADamagedRecordIsNamedWithItsFileAndNobodyElseReadsIt) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "records.sqlite").close();
  std::filesystem::permissions(directory / "records.sqlite", std::filesystem::perms(0644));
  {
    const auto records = open_sqlite_records(directory.path());
    for (const auto& file : std::filesystem::directory_iterator(directory.path()))
      EXPECT_EQ(file.status().permissions(), std::filesystem::perms(0600)) << file.path();
  }
  SqliteConnection(directory / "records.sqlite").run("INSERT INTO jobs VALUES(x'61', x'62', x'63', x'64', '{}')");
  const auto records = open_sqlite_records(directory.path());
  try {
    records->jobs();
    ADD_FAILURE() << "read";
  } catch (const CacheError& error) {
    EXPECT_THAT(error.what(), ::testing::AllOf(::testing::HasSubstr("A record of the manager's catalog is damaged"),
                                               ::testing::HasSubstr(directory / "records.sqlite; restore it from a backup")));
  }
}

TEST(SqliteRecords, AFileOfTheFirstVersionIsBroughtForward) {
  const TemporaryDirectory directory;
  {
    SqliteConnection file(directory / "records.sqlite");
    file.run(
        "CREATE TABLE clients(name BLOB PRIMARY KEY, password BLOB NOT NULL, s3_auth BLOB NOT NULL, domain BLOB NOT NULL,"
        " enabled INTEGER NOT NULL, created_ms INTEGER NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE sessions(token_hash BLOB PRIMARY KEY, client BLOB NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE jobs(id BLOB PRIMARY KEY, client BLOB NOT NULL, name BLOB NOT NULL, token_hash BLOB NOT NULL,"
        " document BLOB NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE datasets(id BLOB PRIMARY KEY, client BLOB NOT NULL, document BLOB NOT NULL) WITHOUT ROWID;"
        "INSERT INTO clients VALUES(x'616c696365', x'68617368', x'00ff', x'7465616d', 1, 5); PRAGMA user_version=1;");
  }
  const auto records = open_sqlite_records(directory.path());
  ClientRecord alice{"alice", "hash", std::string("\0\xff", 2), "team", true, 5, {}};
  EXPECT_THAT(records->clients(), ::testing::ElementsAre(alice));
  alice.quota = {100, 2};
  records->put_client(alice);
  EXPECT_THAT(records->clients(), ::testing::ElementsAre(alice));
}

TEST(SqliteRecords, AFullDiskIsNamedAndHarmsNothing) {
  const TemporaryDirectory directory;
  const auto records = open_sqlite_records(directory.path());
  records->put_session({"t", "alice"});
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit small{16'384, before.rlim_max};  // as if nothing more fitted
  setrlimit(RLIMIT_FSIZE, &small);
  std::string error = "(no CacheError)";
  try {
    for (int i = 0; i < 1000; ++i) records->put_session({"session " + std::to_string(i), std::string(1000, 'x')});
  } catch (const CacheError& caught) {
    error = caught.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_THAT(error, ::testing::HasSubstr(directory / "records.sqlite fails while a session is recorded"));
  records->put_session({"u", "alice"});
  EXPECT_THAT(records->sessions(), ::testing::IsSupersetOf({SessionRecord{"t", "alice"}, SessionRecord{"u", "alice"}}));
}

TEST(SqliteRecords, AFileOfANewerVersionIsRefused) {
  const TemporaryDirectory directory;
  open_sqlite_records(directory.path());
  SqliteConnection(directory / "records.sqlite").run("PRAGMA user_version=99");
  EXPECT_THAT(error_of(directory), ::testing::HasSubstr("is of version 99"));
}

}  // namespace testing
}  // namespace alnair::manager
