// Two servers that speak as much of MongoDB's protocol as a replica set needs: elections, step-downs, NotWritablePrimary,
// when the test says so. What is written is kept for both, as by a majority; values are texts and whole numbers.
//
// Thread-safe.
#pragma once

#include <bson/bson.h>
#include <fmt/format.h>

#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "manager/records/mongodb/bson.h"
#include "support/scripted_server.h"

namespace alnair::manager::testing {

class ScriptedReplicaSet {
 public:
  using json = nlohmann::json;

  ScriptedReplicaSet() {
    for (int member = 0; member < 2; ++member)
      members_.emplace_back([this, member](std::string& bytes) { return take(member, bytes); });
  }

  std::string uri() const {
    return fmt::format("mongodb://127.0.0.1:{},127.0.0.1:{}/alnair?replicaSet=rs&heartbeatFrequencyMS=500",
                       members_[0].port(), members_[1].port());
  }

  // The primary refuses what it gets from now on. After a refusal, and when the members were asked three times for their
  // state, the other one is elected.
  void step_down() {
    const std::lock_guard lock(mutex_);
    candidate_ = 1 - primary_;
    primary_ = -1;
    refused_ = asked_ = 0;
  }
  void lose_primary() {
    const std::lock_guard lock(mutex_);
    primary_ = -1;
  }
  void elect(int member) {
    const std::lock_guard lock(mutex_);
    primary_ = member;
  }
  // Somebody else's change of a document.
  void set(const std::string& collection, const std::string& id, const std::string& field, const json& value) {
    const std::lock_guard lock(mutex_);
    collections_[collection][id][field] = value;
  }
  int writes_on(int member) const {
    const std::lock_guard lock(mutex_);
    return writes_[member];
  }
  int refused() const {
    const std::lock_guard lock(mutex_);
    return refused_;
  }

 private:
  static std::int32_t number_at(const std::string& bytes, std::size_t position) {
    std::int32_t number = 0;
    std::memcpy(&number, bytes.data() + position, sizeof number);
    return number;
  }

  static json document_at(const std::string& bytes, std::size_t position) {
    bson_t document;
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data() + position);
    if (!bson_init_static(&document, data, static_cast<std::size_t>(number_at(bytes, position)))) return {};
    return from_bson(document);
  }

  static std::string bson_of(const std::string& text) {
    bson_error_t error{};
    bson_t* document = bson_new_from_json(reinterpret_cast<const std::uint8_t*>(text.data()), -1, &error);
    if (document == nullptr) throw std::runtime_error(error.message);
    const std::string bytes(reinterpret_cast<const char*>(bson_get_data(document)), document->len);
    bson_destroy(document);
    return bytes;
  }

  std::optional<std::string> take(int member, std::string& bytes) {
    if (bytes.size() < 16 || bytes.size() < static_cast<std::size_t>(number_at(bytes, 0))) return std::nullopt;
    const std::string message = bytes.substr(0, static_cast<std::size_t>(number_at(bytes, 0)));
    bytes.erase(0, message.size());
    const auto word = [](std::int32_t number) { return std::string(reinterpret_cast<const char*>(&number), 4); };
    std::string body;
    const bool query = number_at(message, 12) == 2004;  // OP_QUERY: the first hello of a connection
    if (query) {
      body = word(8) + std::string(8, '\0') + word(0) + word(1) + bson_of(hello(member));
    } else {
      body = word(0) + std::string(1, '\0') + bson_of(answer(member, command(message)));
    }
    return word(static_cast<std::int32_t>(16 + body.size())) + word(1) + word(number_at(message, 4)) +
           word(query ? 1 : 2013) + body;
  }

  // OP_MSG: a document, and lists of documents that are a field of it.
  static json command(const std::string& message) {
    json result;
    for (std::size_t at = 20; at < message.size();) {
      const char kind = message[at++];
      if (kind == 0) {
        result.update(document_at(message, at));
        at += static_cast<std::size_t>(number_at(message, at));
        continue;
      }
      const std::size_t end = at + static_cast<std::size_t>(number_at(message, at));
      const std::string field = message.c_str() + at + 4;
      for (at += 4 + field.size() + 1; at < end; at += static_cast<std::size_t>(number_at(message, at)))
        result[field].push_back(document_at(message, at));
    }
    return result;
  }

  std::string hello(int member) {
    const std::lock_guard lock(mutex_);
    if (candidate_ >= 0 && refused_ > 0 && ++asked_ > 3) primary_ = std::exchange(candidate_, -1);
    return fmt::format(
        R"({{"ok": 1.0, "ismaster": {0}, "isWritablePrimary": {0}, "secondary": {1}, "setName": "rs", "setVersion": 1,
            "hosts": ["127.0.0.1:{2}", "127.0.0.1:{3}"], "me": "127.0.0.1:{4}", "minWireVersion": 0, "maxWireVersion": 13,
            "maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 1000,
            "logicalSessionTimeoutMinutes": 30}})",
        primary_ == member, primary_ != member, members_[0].port(), members_[1].port(),
        members_[static_cast<std::size_t>(member)].port());
  }

  static bool matches(const json& document, const json& filter) {
    for (const auto& [field, value] : filter.items())
      if (!document.contains(field) || document.at(field) != value) return false;
    return true;
  }

  std::string answer(int member, const json& command) {
    for (const char* name : {"hello", "isMaster", "ismaster"})
      if (command.contains(name)) return hello(member);
    if (command.contains("endSessions")) return R"({"ok": 1.0})";
    const std::lock_guard lock(mutex_);
    if (member != primary_) {
      ++refused_;
      return R"({"ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary",
                 "errorLabels": ["RetryableWriteError"]})";
    }
    if (command.contains("find")) return found(collections_[command.at("find")], command.at("filter"));
    ++writes_[member];
    int count = 0;
    if (command.contains("insert")) {
      for (const json& document : command.at("documents")) {
        json& kept = collections_[command.at("insert")][document.at("_id")];
        if (!kept.is_null())
          return R"({"ok": 1.0, "n": 0, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "duplicate key"}]})";
        kept = document;
        ++count;
      }
    } else if (command.contains("update")) {
      for (const json& update : command.at("updates")) {
        const std::string upserted = change(collections_[command.at("update")], update, count);
        if (!upserted.empty())
          return fmt::format(R"({{"ok": 1.0, "n": 1, "nModified": 0, "upserted": [{{"index": 0, "_id": "{}"}}]}})", upserted);
      }
      return fmt::format(R"({{"ok": 1.0, "n": {0}, "nModified": {0}}})", count);
    } else if (command.contains("delete")) {
      for (const json& deletion : command.at("deletes"))
        count += static_cast<int>(std::erase_if(collections_[command.at("delete")], [&](const auto& entry) {
          return matches(entry.second, deletion.at("q"));
        }));
    }
    return fmt::format(R"({{"ok": 1.0, "n": {}}})", count);
  }

  static std::string change(std::map<std::string, json>& collection, const json& update, int& count) {
    const json& replacement = update.at("u");
    for (auto& [id, document] : collection) {
      if (!matches(document, update.at("q"))) continue;
      ++count;
      if (replacement.contains("_id")) document = replacement;
      if (replacement.contains("$set")) document.update(replacement.at("$set"));
      if (replacement.contains("$inc"))
        for (const auto& [field, by] : replacement.at("$inc").items())
          document[field] = document.value(field, 0) + by.get<int>();
      return "";
    }
    if (!update.value("upsert", false)) return "";
    const std::string id = update.at("q").at("_id");
    collection[id] = replacement;
    return id;
  }

  static std::string found(const std::map<std::string, json>& collection, const json& filter) {
    json documents = json::array();
    for (const auto& [id, document] : collection)
      if (matches(document, filter)) documents.push_back(document);
    return fmt::format(
        R"({{"ok": 1.0, "cursor": {{"id": {{"$numberLong": "0"}}, "ns": "alnair.x", "firstBatch": {}}}}})",
        documents.dump());
  }

  mutable std::mutex mutex_;
  int primary_ = 0, candidate_ = -1, refused_ = 0, asked_ = 0;
  int writes_[2] = {0, 0};
  std::map<std::string, std::map<std::string, json>> collections_;  // by name and "_id"
  std::deque<alnair::testing::ScriptedServer> members_;              // ends first: its threads use the rest
};

}  // namespace alnair::manager::testing
