#include "catalog/catalog_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <thread>
#include <vector>

#include "cache/private_directory.h"
#include "core/log.h"

namespace alnair {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kSchemaVersion = 1;
constexpr std::chrono::seconds kRetryAfter{5};  // between attempts to open a file that cannot be opened
constexpr milliseconds kOpenPatience{1000};     // others open it in moments
constexpr std::size_t kKeptAside = 3;

// A row of `hashes` is the hash and its checksum64, seeded with the id's first eight bytes. A row of
// `manifests` has the checksum of its other columns.
constexpr char kSchema[] =
    "CREATE TABLE hashes(id BLOB PRIMARY KEY, hash BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE manifests(sequence INTEGER PRIMARY KEY, dataset BLOB NOT NULL, version BLOB NOT NULL,"
    " registered_ms INTEGER NOT NULL, objects INTEGER NOT NULL, bytes INTEGER NOT NULL, check_sum INTEGER "
    "NOT NULL,"
    " UNIQUE(dataset, version));"
    "PRAGMA user_version=1;";

// Held from construction to destruction; how the file system answers otherwise is no reason to stop.
class OpenLock {
 public:
  OpenLock(const std::string& path, milliseconds patience)
      : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)) {
    const auto deadline = steady_clock::now() + patience;
    while (fd_ >= 0 && flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      if (steady_clock::now() >= deadline) {
        ::close(fd_);
        throw SqliteError(SQLITE_BUSY, "another process is opening it");
      }
      std::this_thread::sleep_for(milliseconds(1));
    }
  }
  ~OpenLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  OpenLock(const OpenLock&) = delete;
  OpenLock& operator=(const OpenLock&) = delete;

 private:
  int fd_;
};

void prune_set_aside(const std::string& directory) {
  std::vector<std::pair<std::filesystem::file_time_type, std::filesystem::path>> files;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with("catalog.sqlite.damaged-") || name.starts_with("catalog.sqlite.newer-"))
      files.emplace_back(std::filesystem::last_write_time(it->path(), error), it->path());
  }
  std::ranges::sort(files, std::greater<>());
  for (std::size_t i = kKeptAside; i < files.size(); ++i) std::filesystem::remove(files[i].second, error);
}

}  // namespace

CatalogFile::CatalogFile(CatalogLocation location, std::atomic<bool>& opened_before)
    : location_(std::move(location)), opened_before_(opened_before) {
  ForkGate::add(this);
}

CatalogFile::~CatalogFile() {
  {
    const ForkGate gate;
    if (gate.usable()) connection_.reset();
  }
  ForkGate::remove(this);
}

void CatalogFile::run(milliseconds busy, bool eager, const std::function<void(SqliteConnection&)>& work) {
  std::string notice;
  struct LogAfterwards {  // destroyed after the gate
    std::string& notice;
    ~LogAfterwards() {
      if (!notice.empty()) log(LogLevel::kWarning, "{}", notice);
    }
  } log_afterwards{notice};

  const ForkGate gate;
  if (!gate.usable()) throw SqliteError(SQLITE_MISUSE, "this process was forked while SQLite was busy");
  const std::lock_guard lock(mutex_);
  if (!eager && steady_clock::now() < not_before_)
    throw SqliteError(SQLITE_CANTOPEN, "it could not be opened just now");
  try {
    open(busy);
    connection_->busy_timeout(busy);
    work(*connection_);
  } catch (const SqliteError& error) {
    if (error.damaged() && connection_) {
      connection_.reset();
      const OpenLock open_lock(location_.database() + ".lock", busy);
      if (is_open_file() && access(location_.database().c_str(), W_OK) == 0)
        set_aside(fmt::format("damaged-{}", std::time(nullptr)));
    }
    notice = std::exchange(notice_, {});
    throw;
  }
  notice = std::exchange(notice_, {});
}

bool CatalogFile::is_open_file() const {
  struct stat status {};
  return lstat(location_.database().c_str(), &status) == 0 && status.st_dev == device_ &&
         status.st_ino == inode_;
}

void CatalogFile::open(milliseconds busy) {
  if (connection_ && is_open_file()) return;
  connection_.reset();
  not_before_ = steady_clock::now() + kRetryAfter;
  try {
    open_private_directory(location_.directory);
  } catch (const std::exception& error) {
    throw SqliteError(SQLITE_CANTOPEN, error.what());
  }
  const OpenLock lock(location_.database() + ".lock", std::max(busy, kOpenPatience));
  std::string why_not;
  connection_ = try_open(busy, why_not);
  if (!connection_) {
    set_aside(why_not);
    connection_ = try_open(busy, why_not);
    if (!connection_) throw SqliteError(SQLITE_CANTOPEN, "it cannot be replaced");
  }
  struct stat status {};
  if (lstat(location_.database().c_str(), &status) != 0) {
    connection_.reset();
    throw SqliteError(SQLITE_CANTOPEN, "it vanished");
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  opened_before_ = true;
  not_before_ = {};
}

// nullopt: the file must be set aside under the suffix `why_not`.
std::optional<SqliteConnection> CatalogFile::try_open(milliseconds busy, std::string& why_not) {
  struct stat status {};
  if (lstat(location_.database().c_str(), &status) == 0 &&
      (!S_ISREG(status.st_mode) || status.st_uid != geteuid()))
    throw SqliteError(SQLITE_CANTOPEN, "it is no plain file of this user");
  try {
    SqliteConnection connection(location_.database());
    connection.busy_timeout(std::max(busy, kOpenPatience));
    // WAL must be asked for outside a transaction; a fresh file gets it before anything else is written.
    connection.run(location_.local ? "PRAGMA journal_mode=WAL" : "PRAGMA journal_mode=TRUNCATE");
    connection.run("PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-8192");
    const std::int64_t version = connection.query_number("PRAGMA user_version");
    if (version > kSchemaVersion) {
      if (opened_before_) throw SqliteError(SQLITE_CANTOPEN, "a newer version of Alnair has taken it over");
      why_not = fmt::format("newer-v{}", version);
      return std::nullopt;
    }
    if (version == 0) {
      if (connection.query_number("SELECT count(*) FROM sqlite_master") != 0)
        throw SqliteError(SQLITE_CORRUPT, "it has no version");
      SqliteTransaction transaction(connection, "BEGIN IMMEDIATE");
      connection.run(kSchema);
      transaction.commit();
    }
    connection.prepared("SELECT hash FROM hashes WHERE id=?");  // tables that are no tables of ours show here
    connection.prepared("SELECT sequence FROM manifests WHERE dataset=? AND version=?");
    return connection;
  } catch (const SqliteError& error) {
    if (!error.damaged() && error.code() != SQLITE_ERROR) throw;
    if (access(location_.database().c_str(), W_OK) != 0) throw;
    why_not = fmt::format("damaged-{}", std::time(nullptr));
    return std::nullopt;
  }
}

void CatalogFile::set_aside(const std::string& suffix) {
  const std::string database = location_.database(), aside = fmt::format("{}.{}", database, suffix);
  unlink((database + "-shm").c_str());
  if (std::rename(database.c_str(), aside.c_str()) != 0)
    throw SqliteError(SQLITE_CANTOPEN,
                      fmt::format("it is damaged and cannot be renamed: {}", std::strerror(errno)));
  for (const char* companion : {"-wal", "-journal"})
    std::rename((database + companion).c_str(), (aside + companion).c_str());
  prune_set_aside(location_.directory);
  notice_ = fmt::format(
      "the catalog {} {} and was set aside as {}; a new one is begun, and datasets are listed again when "
      "they are opened",
      database, suffix.starts_with("newer") ? "is of a newer version of Alnair" : "is damaged", aside);
}

}  // namespace alnair
