// The SQLite catalog: the contract, and what can happen to its files.
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "catalog/contract.h"
#include "catalog/sqlite_catalog.h"
#include "core/log.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;  // NOLINT: the contract's helpers

struct SqliteBackend {
  TemporaryDirectory directory;
  std::unique_ptr<Catalog> open() const { return open_sqlite_catalog(directory.path()); }
};

// As on a network file system: a rollback journal.
struct SqliteJournalBackend {
  TemporaryDirectory directory;
  std::unique_ptr<Catalog> open() const { return make_sqlite_catalog({directory.path(), false}); }
};
using Backends = ::testing::Types<SqliteBackend, SqliteJournalBackend>;
}  // namespace

namespace testing {
INSTANTIATE_TYPED_TEST_SUITE_P(Sqlite, CatalogContract, Backends);
}

namespace {

class SqliteCatalogTest : public ::testing::Test {
 protected:
  SqliteCatalogTest() {
    // One sink for the whole program, because replaced ones are leaked.
    static const bool installed = [] {
      set_log_sink([](LogLevel, std::string_view message) {
        const std::lock_guard lock(log().mutex);
        log().text += std::string(message) + "\n";
      });
      return true;
    }();
    (void)installed;
    log().text.clear();
  }

  std::unique_ptr<Catalog> open() const { return open_sqlite_catalog(directory_.path()); }
  std::string database() const { return directory_ / "catalog.sqlite"; }
  struct Log {
    std::mutex mutex;
    std::string text;
  };
  static Log& log() {
    static Log instance;
    return instance;
  }
  static std::string messages() {
    const std::lock_guard lock(log().mutex);
    return log().text;
  }
  std::vector<std::string> files_like(const std::string& part) const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
      if (entry.path().filename().string().find(part) != std::string::npos) names.push_back(entry.path());
    return names;
  }
  long set_aside(const std::string& why) const {
    return std::ranges::count_if(files_like("catalog.sqlite." + why),
                                 [](const std::string& name) { return !name.ends_with("-wal"); });
  }
  void run_sql(const std::string& sql) const {
    sqlite3* connection = nullptr;
    ASSERT_EQ(sqlite3_open(database().c_str(), &connection), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(connection, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(connection);
    sqlite3_close(connection);
  }
  // The catalog works, whatever was in its files.
  void expect_usable(Catalog& catalog) {
    catalog.put_manifest(record_of("again", 5), some_blob(5, 100));
    EXPECT_EQ(catalog.newest_manifest("again")->version, record_of("again", 5).version);
    EXPECT_EQ(catalog.manifest_blob(record_of("again", 5).version), some_blob(5, 100));
    record_numbers(catalog, 5000, 5100);
    catalog.flush();
    EXPECT_EQ(count_known(catalog, 5000, 5100), 100u);
  }

  TemporaryDirectory directory_;
};

TEST_F(SqliteCatalogTest, ANewerFileIsSetAsideWithAMessageThatNamesIt) {
  open()->put_manifest(record_of("d", 1), some_blob(1, 10));
  run_sql("PRAGMA user_version=7");
  const auto catalog = open();
  expect_usable(*catalog);
  EXPECT_FALSE(catalog->newest_manifest("d").has_value());
  EXPECT_EQ(set_aside("newer-v7"), 1);
  EXPECT_NE(messages().find("catalog.sqlite.newer-v7"), std::string::npos) << messages();
}

TEST_F(SqliteCatalogTest, AFileThatANewerLibraryTookOverIsLeftToIt) {
  const auto catalog = open();
  record_numbers(*catalog, 0, 10);
  catalog->flush();
  EXPECT_EQ(count_known(*catalog, 0, 10), 10u);
  std::filesystem::rename(database(), directory_ / "elsewhere");
  run_sql("CREATE TABLE future(x); PRAGMA user_version=7");
  EXPECT_EQ(count_known(*catalog, 0, 10), 0u);
  EXPECT_THROW((void)catalog->newest_manifest("d"), CacheError);
  EXPECT_TRUE(set_aside("newer") == 0);
}

TEST_F(SqliteCatalogTest, AFileThatIsNoDatabaseIsSetAside) {
  std::ofstream(database()) << std::string(10'000, 'x');
  const auto catalog = open();
  expect_usable(*catalog);
  EXPECT_EQ(set_aside("damaged-"), 1);
  EXPECT_NE(messages().find("is damaged and was set aside"), std::string::npos) << messages();
}

TEST_F(SqliteCatalogTest, SomeoneElsesTablesAreSetAside) {
  run_sql("CREATE TABLE strange(x)");
  expect_usable(*open());
  EXPECT_EQ(set_aside("damaged-"), 1);
}

TEST_F(SqliteCatalogTest, AnEmptyOrTruncatedFileIsReplaced) {
  for (const std::uintmax_t size : {0, 1, 99, 100, 4096, 5000, 8192, 40'000}) {
    {
      const auto catalog = open();
      record_numbers(*catalog, 0, 3000);
      catalog->put_manifest(record_of("d", 1), some_blob(1, 10));
    }
    std::filesystem::resize_file(database(), size);
    const auto catalog = open();
    count_known(*catalog, 0, 3000);
    expect_usable(*catalog);
  }
}

TEST_F(SqliteCatalogTest, DamageAnywhereNeverGivesAWrongHashOrManifest) {
  std::mt19937_64 random(21);
  for (int round = 0; round < 30; ++round) {
    {
      const auto catalog = open();
      record_numbers(*catalog, 0, 2000);
      catalog->put_manifest(record_of("d", 1), some_blob(1, 1000));
    }
    std::vector<std::string> victims = {database()};
    for (const std::string& wal : files_like("-wal")) victims.push_back(wal);
    victims.push_back(directory_.path() + "/manifests/" + record_of("d", 1).version);
    for (const std::string& victim : victims) {
      std::error_code error;
      const auto size = std::filesystem::file_size(victim, error);
      if (error || size == 0) continue;
      std::fstream file(victim, std::ios::in | std::ios::out | std::ios::binary);
      for (std::uint64_t n = random() % 200; n > 0; --n) {
        file.seekp(static_cast<long>(random() % size));
        file.put(static_cast<char>(random()));
      }
    }
    const auto catalog = open();
    count_known(*catalog, 0, 2000);  // checks those that are known
    if (const auto newest = catalog->newest_manifest("d")) {
      EXPECT_TRUE(equal(*newest, record_of("d", 1)));
    }
    if (const auto blob = catalog->manifest_blob(record_of("d", 1).version)) {
      EXPECT_EQ(*blob, some_blob(1, 1000));
    }
    expect_usable(*catalog);
  }
  EXPECT_LE(set_aside("damaged-"), 3);
}

TEST_F(SqliteCatalogTest, DamageFoundLaterIsSetAsideWhileOthersHaveTheFileOpen) {
  const auto first = open(), second = open();
  record_numbers(*first, 0, 20'000);
  first->flush();
  EXPECT_EQ(count_known(*second, 0, 100), 100u);
  {
    std::fstream file(database(), std::ios::in | std::ios::out | std::ios::binary);
    for (std::uintmax_t at = 4096; at < std::filesystem::file_size(database()); at += 512) {
      file.seekp(static_cast<long>(at));
      file << std::string(64, '\xee');
    }
  }
  for (Catalog* catalog : {first.get(), second.get()}) {
    count_known(*catalog, 0, 20'000);
    expect_usable(*catalog);
  }
  EXPECT_EQ(count_known(*first, 5000, 5100), 100u);
  EXPECT_GE(set_aside("damaged-"), 1);
}

TEST_F(SqliteCatalogTest, ADirectoryDeletedMidRunIsMadeAgain) {
  const auto catalog = open();
  expect_usable(*catalog);
  std::filesystem::remove_all(directory_.path());
  EXPECT_EQ(count_known(*catalog, 5000, 5100), 0u);
  expect_usable(*catalog);
}

TEST_F(SqliteCatalogTest, ADamagedManifestFileIsUnknownAndCanBePutAgain) {
  const auto catalog = open();
  const ManifestRecord record = record_of("d", 1);
  const std::string path = directory_.path() + "/manifests/" + record.version;
  for (int round = 0; round < 40; ++round) {
    catalog->put_manifest(record, some_blob(1, 400));
    if (round % 2 == 0) {
      std::filesystem::resize_file(path, static_cast<std::uintmax_t>(round * 8));
    } else {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(round * 8);
      const int byte = file.get();
      file.seekp(round * 8);
      file.put(static_cast<char>(byte ^ 4));
    }
    EXPECT_FALSE(catalog->manifest_blob(record.version).has_value());
    EXPECT_FALSE(std::filesystem::exists(path));
  }
}

TEST_F(SqliteCatalogTest, AWriterElsewhereStallsNoLookup) {
  const auto catalog = open();
  record_numbers(*catalog, 0, 100);
  catalog->flush();
  sqlite3* writer = nullptr;
  ASSERT_EQ(sqlite3_open(database().c_str(), &writer), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(writer, "BEGIN EXCLUSIVE; DELETE FROM hashes", nullptr, nullptr, nullptr),
            SQLITE_OK);
  EXPECT_EQ(count_known(*catalog, 0, 100), 100u);
  record_numbers(*catalog, 100, 200);  // returns although nothing can be written now
  sqlite3_exec(writer, "ROLLBACK", nullptr, nullptr, nullptr);
  sqlite3_close(writer);
  catalog->flush();
  EXPECT_EQ(count_known(*catalog, 0, 200), 200u);
}

TEST_F(SqliteCatalogTest, WithAJournalAWriterElsewhereStallsNoLookupEither) {
  const auto catalog = make_sqlite_catalog({directory_.path(), false});
  record_numbers(*catalog, 0, 100);
  catalog->flush();
  EXPECT_EQ(count_known(*catalog, 0, 100), 100u);
  EXPECT_TRUE(files_like("-wal").empty());
  sqlite3* writer = nullptr;
  ASSERT_EQ(sqlite3_open(database().c_str(), &writer), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(writer, "BEGIN EXCLUSIVE", nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_EQ(count_known(*catalog, 0, 100), 0u);  // unknown for now
  sqlite3_exec(writer, "ROLLBACK", nullptr, nullptr, nullptr);
  sqlite3_close(writer);
  EXPECT_EQ(count_known(*catalog, 0, 100), 100u);
}

TEST_F(SqliteCatalogTest, FoldersOfHostsThatAreGoneAreRemoved) {
  for (const char* host : {"old", "new", "self"}) {
    const auto catalog = make_sqlite_catalog({open_host_folder(directory_.path(), host), false});
    EXPECT_TRUE(catalog->manifests().empty());
  }
  std::filesystem::last_write_time(
      directory_ / "host-old/catalog.sqlite",
      std::filesystem::file_time_type::clock::now() - std::chrono::hours(24 * 40));
  std::ofstream(directory_ / "unrelated") << "x";
  open_host_folder(directory_.path(), "self");
  EXPECT_FALSE(std::filesystem::exists(directory_ / "host-old"));
  EXPECT_TRUE(std::filesystem::exists(directory_ / "host-new"));
  EXPECT_TRUE(std::filesystem::exists(directory_ / "host-self"));
  EXPECT_TRUE(std::filesystem::exists(directory_ / "unrelated"));
}

TEST_F(SqliteCatalogTest, ADirectoryThatCannotBeUsedIsRefusedByName) {
  std::ofstream(directory_ / "file") << "x";
  std::filesystem::create_directory_symlink(directory_.path(), directory_ / "link");
  for (const std::string& path : {directory_ / "file", directory_ / "link", std::string("/proc/none")}) {
    try {
      open_sqlite_catalog(path);
      ADD_FAILURE() << path;
    } catch (const CacheError& error) {
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    }
  }
}

TEST_F(SqliteCatalogTest, AFullDiskLosesRecordsAndNothingElse) {
  const auto catalog = open();
  expect_usable(*catalog);
  EXPECT_TRUE(in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit { 64 * 1024, 64 * 1024 };
    setrlimit(RLIMIT_FSIZE, &limit);  // as a full disk, for files of this process: writes fail beyond
    record_numbers(*catalog, 0, 20'000);
    catalog->flush();
    if (count_known(*catalog, 5000, 5100) != 100) return false;
    try {
      catalog->put_manifest(record_of("d", 1), some_blob(1, 1 << 20));
      return false;
    } catch (const CacheError&) {
    }
    return true;
  }));
  EXPECT_EQ(count_known(*catalog, 5000, 5100), 100u);
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "manifests"))
    EXPECT_FALSE(entry.path().filename().string().starts_with(".tmp")) << entry.path();
  expect_usable(*catalog);
}

TEST_F(SqliteCatalogTest, KilledWritersLeaveAWorkingCatalog) {
  std::mt19937_64 random(31);
  for (int round = 0; round < 50; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      const auto catalog = open();
      for (std::uint64_t i = 0;; ++i) {
        record_numbers(*catalog, i * 50 % 2000, i * 50 % 2000 + 50);
        catalog->flush();
        if (i % 5 == 0) catalog->put_manifest(record_of("d", i % 3 + 1), some_blob(i % 3, 5000));
      }
    }
    usleep(static_cast<useconds_t>(random() % 30'000));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const auto catalog = open();
    count_known(*catalog, 0, 2000);
    if (const auto newest = catalog->newest_manifest("d")) {
      EXPECT_TRUE(catalog->manifest_blob(newest->version).has_value());
    }
    if (round % 10 == 9) expect_usable(*catalog);
  }
  EXPECT_TRUE(set_aside("damaged-") == 0) << messages();
}

}  // namespace
}  // namespace alnair
