// The seam to libmongoc: one database of a server or replica set, with writes to the majority.
//
// Calls that find no primary, or lose their connection, are tried again until `retry` has passed: all of them may be
// made twice. Then, and for every other failure, CacheError names the servers, never the password that the URI may
// hold.
//
// Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace alnair::manager {

class MongoDatabase {
 public:
  // `call_timeout` bounds the search for a primary and each answer. Throws ConfigError: the URI is none.
  MongoDatabase(const std::string& uri, std::chrono::milliseconds call_timeout, std::chrono::milliseconds retry);
  ~MongoDatabase();

  // The document of that "_id", inserted or replaced whole. True: it is new.
  bool put(const char* collection, const nlohmann::json& document);
  bool insert(const char* collection, const nlohmann::json& document);  // false: there is one of that "_id"
  bool update(const char* collection, const nlohmann::json& filter, const nlohmann::json& change);  // false: none
  void erase(const char* collection, const nlohmann::json& filter);
  std::vector<nlohmann::json> find(const char* collection, const nlohmann::json& filter = nlohmann::json::object());
  void make_index(const char* collection, const std::string& field);

  const std::string& where() const { return where_; }  // "MongoDB at 127.0.0.1:27017"

 private:
  struct Connections;

  std::string where_;
  std::unique_ptr<Connections> connections_;
};

}  // namespace alnair::manager
