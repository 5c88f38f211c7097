// One file, records.sqlite, with one connection: the manager is its only user, and holds a lock that dies with it.
//
// Unlike the core's catalog, which only saves work, this one holds what cannot be had again (clients, passwords). So a
// damaged or newer file is refused, never set aside, and commits reach the disk before they are acknowledged.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <optional>

#include "alnair/core/error.h"
#include "catalog/sqlite.h"
#include "core/file.h"
#include "manager/records/records.h"

namespace alnair::manager {
namespace {

constexpr std::int64_t kSchemaVersion = 2;

constexpr char kSchema[] =
    "CREATE TABLE clients(name BLOB PRIMARY KEY, password BLOB NOT NULL, s3_auth BLOB NOT NULL, domain BLOB NOT NULL,"
    " enabled INTEGER NOT NULL, created_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE sessions(token_hash BLOB PRIMARY KEY, client BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE jobs(id BLOB PRIMARY KEY, client BLOB NOT NULL, name BLOB NOT NULL, token_hash BLOB NOT NULL,"
    " document BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE datasets(id BLOB PRIMARY KEY, client BLOB NOT NULL, document BLOB NOT NULL) WITHOUT ROWID;"
    "PRAGMA user_version=1;";

// What brings a file of version i + 1 to the next one.
constexpr const char* kMigrations[] = {
    "ALTER TABLE clients ADD COLUMN document BLOB NOT NULL DEFAULT '{}'; PRAGMA user_version=2;"};
static_assert(std::size(kMigrations) == kSchemaVersion - 1);

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

class SqliteRecords final : public Records {
 public:
  SqliteRecords(const std::string& directory, const Patience& patience)
      : path_(directory + "/records.sqlite"), lock_(lock_state(directory, patience)) {
    // SQLite gives the files beside it the same mode.
    if (const FileDescriptor file(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)); file)
      ::fchmod(file.get(), 0600);  // of before
    run("it is opened", [&] {
      connection_.emplace(path_);
      connection_->run("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA journal_size_limit=16777216");
      const std::int64_t version = connection_->query_number("PRAGMA user_version");
      if (version > kSchemaVersion)
        throw CacheError(fmt::format(
            "The manager's catalog {} is of version {}, and this alnair-manager knows versions up to {}: use the newer "
            "alnair-manager, or another state_dir.",
            path_, version, kSchemaVersion));
      if (version < kSchemaVersion) {
        SqliteTransaction transaction(*connection_, "BEGIN IMMEDIATE");
        if (version == 0) connection_->run(kSchema);
        for (std::int64_t from = std::max<std::int64_t>(version, 1); from < kSchemaVersion; ++from)
          connection_->run(kMigrations[from - 1]);
        transaction.commit();
      }
      if (const std::string found = connection_->query_text("PRAGMA quick_check(1)"); found != "ok")
        throw SqliteError(SQLITE_CORRUPT, found);
    });
  }

  void put_client(const ClientRecord& record) override {
    const std::string document = document_of(record);
    run("a client is recorded", [&] {
      sql("INSERT OR REPLACE INTO clients VALUES(?, ?, ?, ?, ?, ?, ?)")
          .bind(1, bytes_of(record.name))
          .bind(2, bytes_of(record.password))
          .bind(3, bytes_of(record.s3_auth))
          .bind(4, bytes_of(record.domain))
          .bind(5, record.enabled ? 1 : 0)
          .bind(6, record.created_ms)
          .bind(7, bytes_of(document))
          .step();
    });
  }

  void erase_client(const std::string& name) override {
    run("a client is removed", [&] {
      SqliteTransaction transaction(*connection_, "BEGIN IMMEDIATE");
      sql("DELETE FROM clients WHERE name=?").bind(1, bytes_of(name)).step();
      sql("DELETE FROM sessions WHERE client=?").bind(1, bytes_of(name)).step();
      sql("DELETE FROM jobs WHERE client=?").bind(1, bytes_of(name)).step();
      sql("DELETE FROM datasets WHERE client=?").bind(1, bytes_of(name)).step();
      transaction.commit();
    });
  }

  std::vector<ClientRecord> clients() override {
    return rows<ClientRecord>(
        "SELECT name, password, s3_auth, domain, enabled, created_ms, document FROM clients ORDER BY name",
        [](const SqliteStatement& row) {
          ClientRecord record{row.text(0), row.text(1), row.text(2), row.text(3), row.number(4) != 0, row.number(5), {}};
          read_document(row.text(6), record);
          return record;
        });
  }

  void put_session(const SessionRecord& record) override {
    run("a session is recorded", [&] {
      sql("INSERT OR REPLACE INTO sessions VALUES(?, ?)")
          .bind(1, bytes_of(record.token_hash))
          .bind(2, bytes_of(record.client))
          .step();
    });
  }

  void erase_session(const std::string& token_hash) override {
    run("a session is removed",
        [&] { sql("DELETE FROM sessions WHERE token_hash=?").bind(1, bytes_of(token_hash)).step(); });
  }

  std::vector<SessionRecord> sessions() override {
    return rows<SessionRecord>("SELECT token_hash, client FROM sessions ORDER BY token_hash",
                               [](const SqliteStatement& row) {
                                 return SessionRecord{row.text(0), row.text(1)};
                               });
  }

  void put_job(const JobRecord& record) override {
    const std::string document = document_of(record);
    run("a job is recorded", [&] {
      sql("INSERT OR REPLACE INTO jobs VALUES(?, ?, ?, ?, ?)")
          .bind(1, bytes_of(record.id))
          .bind(2, bytes_of(record.client))
          .bind(3, bytes_of(record.name))
          .bind(4, bytes_of(record.token_hash))
          .bind(5, bytes_of(document))
          .step();
    });
  }

  void erase_job(const std::string& id) override {
    run("a job is removed", [&] { sql("DELETE FROM jobs WHERE id=?").bind(1, bytes_of(id)).step(); });
  }

  std::vector<JobRecord> jobs() override {
    return rows<JobRecord>("SELECT id, client, name, token_hash, document FROM jobs ORDER BY id",
                           [](const SqliteStatement& row) {
                             JobRecord record;
                             record.id = row.text(0);
                             record.client = row.text(1);
                             record.name = row.text(2);
                             record.token_hash = row.text(3);
                             read_document(row.text(4), record);
                             return record;
                           });
  }

  void put_dataset(const DatasetRecord& record) override {
    const std::string document = document_of(record);
    run("a dataset is recorded", [&] {
      sql("INSERT OR REPLACE INTO datasets VALUES(?, ?, ?)")
          .bind(1, bytes_of(record.id))
          .bind(2, bytes_of(record.client))
          .bind(3, bytes_of(document))
          .step();
    });
  }

  void erase_dataset(const std::string& id) override {
    run("a dataset is removed", [&] { sql("DELETE FROM datasets WHERE id=?").bind(1, bytes_of(id)).step(); });
  }

  std::vector<DatasetRecord> datasets() override {
    return rows<DatasetRecord>("SELECT id, client, document FROM datasets ORDER BY id", [](const SqliteStatement& row) {
      DatasetRecord record;
      record.id = row.text(0);
      record.client = row.text(1);
      read_document(row.text(2), record);
      return record;
    });
  }

 private:
  SqliteStatement& sql(const char* text) { return connection_->prepared(text); }

  template <typename Work>
  void run(const char* doing, const Work& work) {
    const std::lock_guard lock(mutex_);
    try {
      work();
    } catch (const SqliteError& error) {
      throw CacheError(fmt::format("The manager's catalog {} fails while {}: {}.{}", path_, doing, error.what(),
                                   error.damaged() ? " Restore it from a backup, or name another state_dir." : ""));
    }
  }

  template <typename Record, typename Read>
  std::vector<Record> rows(const char* text, const Read& read) {
    std::vector<Record> records;
    run("records are read", [&] {
      SqliteStatement& row = sql(text);
      try {
        while (row.step()) records.push_back(read(row));
      } catch (const CacheError& error) {
        throw CacheError(fmt::format("{} ({}; restore it from a backup)", error.what(), path_));
      }
      row.reset();
    });
    return records;
  }

  const std::string path_;
  const FileDescriptor lock_;
  std::mutex mutex_;
  std::optional<SqliteConnection> connection_;
};

}  // namespace

std::unique_ptr<Records> open_sqlite_records(const std::string& directory, const Patience& patience) {
  return std::make_unique<SqliteRecords>(directory, patience);
}

}  // namespace alnair::manager
