// One connection to the catalog's SQLite file: opened at first use, again after a fork, and again when
// another process has set the file aside. A damaged file, or one of a newer schema, is set aside and a new
// one begun.
//
// Several processes, each with several connections, use the file at once:
// 1. Whoever opens the file holds the lock file's lock (flock: the kernel drops it when its holder dies)
// until the file is
//    known to be whole, so that nobody opens what another one is about to set aside.
// 2. Setting aside removes the shared-memory file, then renames the database, then its WAL or journal. Killed
// in between, it
//    leaves a WAL or journal without a database, which SQLite discards when it makes a new one.
// 3. Whoever had the old file open keeps it, by descriptor, until its next use: then it sees another inode
// under the name
//    and opens that one. Connections remove no file when they close.
//
// Thread safety: run() may be called from any thread; calls take turns.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "alnair/catalog/catalog.h"
#include "catalog/fork_gate.h"
#include "catalog/sqlite.h"

namespace alnair {

struct CatalogLocation {
  std::string directory;  // ours, mode 0700
  bool local = true;      // file system: WAL; else a rollback journal
  CatalogLimits limits = {};

  std::string database() const { return directory + "/catalog.sqlite"; }
};

class CatalogFile final : public ForkClosable {
 public:
  // `opened_before` is shared by all connections of a catalog: a file of a newer schema that takes the place
  // of one that was open belongs to a newer library that runs now, and is left to it.
  CatalogFile(CatalogLocation location, std::atomic<bool>& opened_before);
  ~CatalogFile() override;

  // Calls `work` with the open connection; it must not log or call back (see ForkGate). `busy` is how long to
  // wait for other processes' locks. After a failure to open the file, `eager` calls try again at once,
  // others fail for a while. Throws SqliteError; the file has been set aside when that says damaged().
  void run(std::chrono::milliseconds busy, bool eager, const std::function<void(SqliteConnection&)>& work);

  void close_for_fork() override { connection_.reset(); }

 private:
  void open(std::chrono::milliseconds busy);  // a no-op while the file is the one that is open
  std::optional<SqliteConnection> try_open(std::chrono::milliseconds busy, std::string& why_not);
  void set_aside(const std::string& suffix);
  bool is_open_file() const;

  const CatalogLocation location_;
  std::mutex mutex_;
  std::optional<SqliteConnection> connection_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::atomic<bool>& opened_before_;
  std::chrono::steady_clock::time_point not_before_{};
  std::string notice_;  // to be logged once outside the gate
};

}  // namespace alnair
