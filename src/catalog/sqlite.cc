#include "catalog/sqlite.h"

namespace alnair {
namespace {

[[noreturn]] void fail(sqlite3* connection, int result) {
  if (connection == nullptr) throw SqliteError(result, sqlite3_errstr(result));
  throw SqliteError(sqlite3_extended_errcode(connection), sqlite3_errmsg(connection));
}

}  // namespace

SqliteStatement::SqliteStatement(sqlite3* connection, const char* sql) {
  sqlite3_stmt* statement = nullptr;
  const int result = sqlite3_prepare_v3(connection, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  statement_.reset(statement);
  if (result != SQLITE_OK) fail(connection, result);
}

void SqliteStatement::check(int result) const {
  if (result != SQLITE_OK) fail(sqlite3_db_handle(statement_.get()), result);
}

SqliteStatement& SqliteStatement::bind(int parameter, std::span<const std::byte> bytes) {
  // A null pointer would bind NULL.
  const void* data = bytes.empty() ? static_cast<const void*>("") : bytes.data();
  check(sqlite3_bind_blob64(statement_.get(), parameter, data, bytes.size(), SQLITE_STATIC));
  return *this;
}

SqliteStatement& SqliteStatement::bind(int parameter, std::int64_t number) {
  check(sqlite3_bind_int64(statement_.get(), parameter, number));
  return *this;
}

bool SqliteStatement::step() {
  const int result = sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  fail(sqlite3_db_handle(statement_.get()), result);
}

std::span<const std::byte> SqliteStatement::bytes(int column) const {
  const auto* data = static_cast<const std::byte*>(sqlite3_column_blob(statement_.get(), column));
  return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

std::int64_t SqliteStatement::number(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::string SqliteStatement::text(int column) const {
  const auto found = bytes(column);
  return {reinterpret_cast<const char*>(found.data()), found.size()};
}

void SqliteStatement::reset() { sqlite3_reset(statement_.get()); }

SqliteConnection::SqliteConnection(const std::string& path) {
  sqlite3* connection = nullptr;
  const int flags =
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
  const int result = sqlite3_open_v2(path.c_str(), &connection, flags, nullptr);
  connection_.reset(connection);
  if (result != SQLITE_OK) fail(connection, result);
  // A close must neither take long (a fork waits for it) nor remove files by name: the name may be another
  // file's by now.
  sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_db_config(connection, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(connection, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
}

void SqliteConnection::busy_timeout(std::chrono::milliseconds timeout) {
  sqlite3_busy_timeout(connection_.get(), static_cast<int>(timeout.count()));
}

void SqliteConnection::run(const char* sql) {
  const int result = sqlite3_exec(connection_.get(), sql, nullptr, nullptr, nullptr);
  if (result != SQLITE_OK) fail(connection_.get(), result);
}

std::string SqliteConnection::query_text(const char* sql) {
  SqliteStatement statement(connection_.get(), sql);
  return statement.step() ? statement.text(0) : "";
}

std::int64_t SqliteConnection::query_number(const char* sql) {
  SqliteStatement statement(connection_.get(), sql);
  return statement.step() ? statement.number(0) : 0;
}

SqliteStatement& SqliteConnection::prepared(const char* sql) {
  for (auto& [text, statement] : prepared_)
    if (text == sql) {
      statement.reset();
      return statement;
    }
  prepared_.emplace_back(sql, SqliteStatement(connection_.get(), sql));
  return prepared_.back().second;
}

SqliteTransaction::~SqliteTransaction() {
  if (connection_ == nullptr) return;
  try {
    connection_->run("ROLLBACK");
  } catch (const SqliteError&) {  // SQLite has rolled back already
  }
}

void SqliteTransaction::commit() {
  connection_->run("COMMIT");
  connection_ = nullptr;
}

}  // namespace alnair
