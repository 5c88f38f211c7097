// The seam to SQLite: a connection, its statements, and failures as exceptions that stay in this folder.
//
// Thread safety: none; one thread at a time uses a connection. Only inside a ForkGate.
#pragma once

#include <sqlite3.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

namespace alnair {

class SqliteError : public std::runtime_error {
 public:
  SqliteError(int code, const std::string& message) : std::runtime_error(message), code_(code) {}
  int code() const { return code_ & 0xff; }  // primary: SQLITE_BUSY, SQLITE_CORRUPT...

  // The file is the fault. Plain SQLITE_READONLY is one too: a header that asks for a newer SQLite, unless
  // the file system does not let this process write.
  bool damaged() const {
    return code() == SQLITE_CORRUPT || code() == SQLITE_NOTADB || code_ == SQLITE_READONLY;
  }

 private:
  int code_;  // extended
};

class SqliteStatement {
 public:
  SqliteStatement(sqlite3* connection, const char* sql);

  // Parameters count from 1, columns from 0. Bound bytes must stay until the next reset().
  SqliteStatement& bind(int parameter, std::span<const std::byte> bytes);
  SqliteStatement& bind(int parameter, std::int64_t number);
  bool step();                                         // true: there is a row
  std::span<const std::byte> bytes(int column) const;  // until the next step or reset
  std::int64_t number(int column) const;
  std::string text(int column) const;
  void reset();

 private:
  void check(int result) const;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

class SqliteConnection {
 public:
  explicit SqliteConnection(const std::string& path);  // made if absent

  void busy_timeout(std::chrono::milliseconds timeout);
  void run(const char* sql);  // without rows or parameters; may be several statements
  std::string query_text(const char* sql);
  std::int64_t query_number(const char* sql);

  // A prepared statement, reset; kept for the next time. `sql` must be a literal.
  SqliteStatement& prepared(const char* sql);

 private:
  struct Close {
    void operator()(sqlite3* connection) const { sqlite3_close(connection); }
  };
  std::unique_ptr<sqlite3, Close> connection_;
  std::deque<std::pair<const char*, SqliteStatement>> prepared_;  // destroyed before the connection
};

// Rolls back unless committed.
class SqliteTransaction {
 public:
  SqliteTransaction(SqliteConnection& connection, const char* begin) : connection_(&connection) {
    connection.run(begin);
  }
  ~SqliteTransaction();
  SqliteTransaction(const SqliteTransaction&) = delete;
  SqliteTransaction& operator=(const SqliteTransaction&) = delete;
  void commit();

 private:
  SqliteConnection* connection_;
};

}  // namespace alnair
