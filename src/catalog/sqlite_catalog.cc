// The catalog on SQLite: hashes and manifest records in one file, manifest blobs in files beside it.
//
// What goes wrong while hashes are looked up or recorded costs a fetch and nothing else: it is counted, and
// logged once.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <set>

#include "alnair/catalog/catalog.h"
#include "alnair/core/error.h"
#include "cache/private_directory.h"
#include "catalog/abandonable_catalog.h"
#include "catalog/catalog_file.h"
#include "catalog/hash_writer.h"
#include "catalog/manifest_files.h"
#include "catalog/sqlite_catalog.h"
#include "core/fork.h"
#include "core/host.h"
#include "core/log.h"
#include "core/metrics.h"

namespace alnair {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kReadPatience{20};      // for another process's lock, where a caller reads samples
constexpr milliseconds kWritePatience{5'000};  // in the background, and where a caller registers a dataset
constexpr char kHostPrefix[] = "host-";
constexpr std::size_t kLargeBatch = 4096;  // records that touch more pages than SQLite checkpoints by itself
constexpr std::int64_t kMaxTableBytes = std::int64_t{2} << 30;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }
std::span<const std::byte> bytes_of(const ChunkId& id) { return std::as_bytes(std::span(id.bytes)); }

// The value of a row of `hashes`.
using HashRow = std::array<std::byte, 40>;

HashRow make_row(const HashRecord& record) {
  HashRow row;
  std::memcpy(row.data(), record.hash.bytes.data(), 32);
  std::uint64_t checksum = checksum64({row.data(), 32}, checksum64(bytes_of(record.id)));
  for (std::size_t i = 32; i < row.size(); ++i, checksum >>= 8) row[i] = static_cast<std::byte>(checksum);
  return row;
}

std::optional<ContentHash> read_row(const ChunkId& id, std::span<const std::byte> value) {
  HashRecord record{id, {}};
  if (value.size() != sizeof(HashRow)) return std::nullopt;
  std::memcpy(record.hash.bytes.data(), value.data(), 32);
  const HashRow expected = make_row(record);
  if (std::memcmp(expected.data(), value.data(), expected.size()) != 0) return std::nullopt;
  return record.hash;
}

// Over all columns of a manifest's row.
std::int64_t check_sum(const ManifestRecord& record, std::int64_t sequence) {
  Hasher hasher;
  hasher.update_field(record.dataset);
  hasher.update_field(record.version);
  for (const std::uint64_t number : {static_cast<std::uint64_t>(record.registered_ms), record.objects,
                                     record.bytes, static_cast<std::uint64_t>(sequence)})
    hasher.update_field(number);
  return static_cast<std::int64_t>(first64(hasher.finish()));
}

// The record of a row of "SELECT dataset, version, registered_ms, objects, bytes, sequence, check_sum";
// nullopt if damaged.
std::optional<ManifestRecord> read_record(const SqliteStatement& row) {
  ManifestRecord record{row.text(0), row.text(1), row.number(2), static_cast<std::uint64_t>(row.number(3)),
                        static_cast<std::uint64_t>(row.number(4))};
  if (check_sum(record, row.number(5)) != row.number(6)) return std::nullopt;
  return record;
}

// What a process owns: never used in a forked child.
class Session {
 public:
  Session(const CatalogLocation& location, std::atomic<bool>& opened_before)
      : path_(location.database()),
        file_(location, opened_before),
        reads_(location, opened_before),
        writer_([this](std::span<const HashRecord> batch) { write(batch); }) {}

  CatalogFile& file() { return file_; }    // for the caller's manifests, and the writer
  CatalogFile& reads() { return reads_; }  // for hashes: its lookups wait for no write of this process
  HashWriter& writer() { return writer_; }

  void count_fault(const char* doing, const std::exception& error) {
    metrics().add(Counter::kCatalogFaults);
    if (once_.first())
      log(LogLevel::kWarning, "the catalog {} fails while {} ({}); what it does not know is fetched again",
          path_, doing, error.what());
  }

 private:
  void write(std::span<const HashRecord> batch);
  static void bound_table(SqliteConnection& connection, const ChunkId& somewhere);

  const std::string path_;
  Once once_;
  CatalogFile file_;
  CatalogFile reads_;
  HashWriter writer_;  // last: its thread uses the others
};

class SqliteCatalog final : public Catalog {
 public:
  explicit SqliteCatalog(CatalogLocation location)
      : location_(std::move(location)),
        blobs_(location_.directory + "/manifests"),
        session_([this] { return std::make_shared<Session>(location_, opened_before_); }) {}

  void put_manifest(const ManifestRecord& record, std::span<const std::byte> blob) override;
  std::optional<ManifestRecord> newest_manifest(std::string_view dataset) override;
  std::optional<std::vector<std::byte>> manifest_blob(std::string_view version) override;
  std::vector<ManifestRecord> manifests() override;
  void find_hashes(std::span<const ChunkId> ids, std::span<std::optional<ContentHash>> hashes) override;
  void record_hashes(std::span<const HashRecord> records) override;
  void flush() override;

 private:
  // Runs `work` on behalf of a caller who wants to know. Throws CacheError.
  void run(const char* doing, const std::function<void(SqliteConnection&)>& work);
  static void insert_manifest(SqliteConnection& connection, const ManifestRecord& record);
  void forget_old_manifests(SqliteConnection& connection);

  const CatalogLocation location_;
  const ManifestFiles blobs_;
  std::atomic<bool> opened_before_{false};
  ForkLocal<Session> session_;
};

void SqliteCatalog::run(const char* doing, const std::function<void(SqliteConnection&)>& work) {
  // A file that turns out damaged is replaced; the second attempt finds the new one.
  for (int attempt = 0;; ++attempt) {
    try {
      return session_.get()->file().run(kWritePatience, true, work);
    } catch (const SqliteError& error) {
      if (error.damaged() && attempt == 0) continue;
      throw CacheError(
          fmt::format("The catalog {} fails while {}: {}.", location_.database(), doing, error.what()));
    }
  }
}

void SqliteCatalog::put_manifest(const ManifestRecord& record, std::span<const std::byte> blob) {
  if (!ContentHash::from_hex(record.version))
    throw CacheError(fmt::format("\"{}\" is no version of a manifest (64 hex digits).", record.version));
  const std::string temporary = blobs_.write(record.version, blob);
  try {
    run("a manifest is stored", [&](SqliteConnection& connection) {
      SqliteTransaction transaction(connection, "BEGIN IMMEDIATE");
      // The file comes before the row that leads to it, and no other process removes it meanwhile.
      if (access(temporary.c_str(), F_OK) == 0) blobs_.rename_in(temporary, record.version);
      insert_manifest(connection, record);
      forget_old_manifests(connection);
      transaction.commit();
    });
  } catch (const CacheError&) {
    unlink(temporary.c_str());
    throw;
  }
}

void SqliteCatalog::insert_manifest(SqliteConnection& connection, const ManifestRecord& record) {
  const std::int64_t sequence =
      connection.query_number("SELECT 1 + coalesce(max(sequence), 0) FROM manifests");
  connection.prepared("DELETE FROM manifests WHERE dataset=? AND version=?")
      .bind(1, bytes_of(record.dataset))
      .bind(2, bytes_of(record.version))
      .step();
  connection.prepared("INSERT INTO manifests VALUES(?, ?, ?, ?, ?, ?, ?)")
      .bind(1, sequence)
      .bind(2, bytes_of(record.dataset))
      .bind(3, bytes_of(record.version))
      .bind(4, record.registered_ms)
      .bind(5, static_cast<std::int64_t>(record.objects))
      .bind(6, static_cast<std::int64_t>(record.bytes))
      .bind(7, check_sum(record, sequence))
      .step();
}

void SqliteCatalog::forget_old_manifests(SqliteConnection& connection) {
  connection
      .prepared(
          "DELETE FROM manifests WHERE sequence IN (SELECT sequence FROM (SELECT sequence, row_number() OVER"
          " (PARTITION BY dataset ORDER BY sequence DESC) AS age FROM manifests) WHERE age > ?)"
          " OR sequence <= (SELECT max(sequence) - ? FROM manifests)")
      .bind(1, location_.limits.versions)
      .bind(2, location_.limits.manifests)
      .step();
  std::set<std::string> versions;
  SqliteStatement& rows = connection.prepared("SELECT DISTINCT version FROM manifests");
  while (rows.step()) versions.insert(rows.text(0));
  blobs_.retain(versions);
}

std::optional<ManifestRecord> SqliteCatalog::newest_manifest(std::string_view dataset) {
  std::optional<ManifestRecord> newest;
  run("a dataset is looked up", [&](SqliteConnection& connection) {
    newest.reset();
    SqliteStatement& rows = connection.prepared(
        "SELECT dataset, version, registered_ms, objects, bytes, sequence, check_sum FROM manifests WHERE "
        "dataset=?"
        " ORDER BY sequence DESC");
    rows.bind(1, bytes_of(dataset));
    while (!newest && rows.step()) newest = read_record(rows);
    rows.reset();
  });
  return newest;
}

std::optional<std::vector<std::byte>> SqliteCatalog::manifest_blob(std::string_view version) {
  if (!ContentHash::from_hex(version)) return std::nullopt;
  return blobs_.read(version);
}

std::vector<ManifestRecord> SqliteCatalog::manifests() {
  std::vector<ManifestRecord> records;
  run("manifests are listed", [&](SqliteConnection& connection) {
    records.clear();
    SqliteStatement& rows = connection.prepared(
        "SELECT dataset, version, registered_ms, objects, bytes, sequence, check_sum FROM manifests ORDER BY "
        "sequence");
    while (rows.step())
      if (auto record = read_record(rows)) records.push_back(std::move(*record));
    rows.reset();
  });
  return records;
}

void SqliteCatalog::find_hashes(std::span<const ChunkId> ids, std::span<std::optional<ContentHash>> hashes) {
  if (ids.empty()) return;
  const auto session = session_.get();
  try {
    session->reads().run(kReadPatience, false, [&](SqliteConnection& connection) {
      SqliteTransaction transaction(connection, "BEGIN");  // one snapshot, one lock
      for (std::size_t i = 0; i < ids.size(); ++i) {
        SqliteStatement& row = connection.prepared("SELECT hash FROM hashes WHERE id=?");
        if (!row.bind(1, bytes_of(ids[i])).step()) continue;
        if (const auto hash = read_row(ids[i], row.bytes(0))) hashes[i] = hash;
        row.reset();
      }
      transaction.commit();
    });
  } catch (const SqliteError& error) {
    session->count_fault("hashes are looked up", error);
  }
}

void SqliteCatalog::record_hashes(std::span<const HashRecord> records) {
  const auto session = session_.get();
  if (const std::size_t lost = session->writer().add(records); lost > 0)
    session->count_fault("hashes are recorded", std::runtime_error("it is too slow"));
}

void SqliteCatalog::flush() {
  if (const auto session = session_.peek()) session->writer().flush();
}

void Session::write(std::span<const HashRecord> batch) {
  const auto write_once = [&](SqliteConnection& connection) {
    SqliteTransaction transaction(connection, "BEGIN IMMEDIATE");
    for (const HashRecord& record : batch) {
      const HashRow row = make_row(record);
      connection
          .prepared(
              "INSERT INTO hashes VALUES(?, ?) ON CONFLICT(id) DO UPDATE SET hash=excluded.hash WHERE "
              "hash<>excluded.hash")
          .bind(1, bytes_of(record.id))
          .bind(2, row)
          .step();
    }
    bound_table(connection, batch[batch.size() / 2].id);
    transaction.commit();
  };
  // So that the next process has no long WAL to recover. Waits for no reader.
  const auto shorten_wal = [](SqliteConnection& connection) {
    connection.query_number("PRAGMA wal_checkpoint(TRUNCATE)");
  };
  for (int attempt = 0;; ++attempt) {
    try {
      file_.run(kWritePatience, false, write_once);
      if (batch.size() >= kLargeBatch) file_.run(milliseconds(0), false, shorten_wal);
      return;
    } catch (const SqliteError& error) {
      if (error.damaged() && attempt == 0) continue;  // it was set aside; the new file takes the batch
      return count_fault("hashes are recorded", error);
    }
  }
}

// Ids are uniformly distributed, so a range of them is a random sample of all chunks.
void Session::bound_table(SqliteConnection& connection, const ChunkId& somewhere) {
  const std::int64_t used =
      (connection.query_number("PRAGMA page_count") - connection.query_number("PRAGMA freelist_count")) *
      connection.query_number("PRAGMA page_size");
  if (used < kMaxTableBytes) return;
  ChunkId end = somewhere;
  end.bytes[0] = static_cast<std::uint8_t>(std::min(255, end.bytes[0] + 32));  // an eighth
  connection.prepared("DELETE FROM hashes WHERE id BETWEEN ? AND ?")
      .bind(1, bytes_of(somewhere))
      .bind(2, bytes_of(end))
      .step();
}

}  // namespace

std::unique_ptr<Catalog> make_sqlite_catalog(CatalogLocation location) {
  return std::make_unique<SqliteCatalog>(std::move(location));
}

std::string open_host_folder(const std::string& directory, const std::string& host) {
  std::vector<std::filesystem::path> unused;
  std::error_code error;
  const auto month_ago = std::filesystem::file_time_type::clock::now() - std::chrono::hours(24 * 30);
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    if (!it->path().filename().string().starts_with(kHostPrefix)) continue;
    std::error_code none;  // a folder without a catalog is somebody's who is just making one
    const auto used = std::filesystem::last_write_time(it->path() / "catalog.sqlite", none);
    if (!none && used < month_ago) unused.push_back(it->path());
  }
  for (const auto& folder : unused) std::filesystem::remove_all(folder, error);
  return open_private_directory(directory + "/" + kHostPrefix + host);
}

std::unique_ptr<Catalog> open_sqlite_catalog(const std::string& directory, CatalogLimits limits) {
  CatalogLocation location{open_private_directory(directory), true};
  location.limits = limits;
  location.local = is_local_file_system(location.directory);
  // Locks among hosts are not to be relied on there.
  if (!location.local) location.directory = open_host_folder(location.directory, host_name());
  if (access(location.directory.c_str(), W_OK) != 0)
    throw CacheError(fmt::format("The catalog directory {} cannot be written: {}.", location.directory,
                                 std::strerror(errno)));
  const bool may_hang = !location.local;
  const std::string where = location.directory;
  auto catalog = make_sqlite_catalog(std::move(location));
  if (!may_hang) return catalog;
  return std::make_unique<AbandonableCatalog>(std::move(catalog), where);
}

}  // namespace alnair
