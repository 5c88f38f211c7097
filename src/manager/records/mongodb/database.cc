#include "manager/records/mongodb/database.h"

#include <fmt/format.h>
#include <mongoc/mongoc.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <thread>

#include "alnair/core/error.h"
#include "core/block_signals.h"
#include "core/log.h"
#include "manager/records/mongodb/bson.h"

namespace alnair::manager {
namespace {

using nlohmann::json;

template <auto Destroy>
struct Deleter {
  template <typename Handle>
  void operator()(Handle* handle) const {
    Destroy(handle);
  }
};
using Uri = std::unique_ptr<mongoc_uri_t, Deleter<&mongoc_uri_destroy>>;
using Pool = std::unique_ptr<mongoc_client_pool_t, Deleter<&mongoc_client_pool_destroy>>;
using Collection = std::unique_ptr<mongoc_collection_t, Deleter<&mongoc_collection_destroy>>;
using WriteConcern = std::unique_ptr<mongoc_write_concern_t, Deleter<&mongoc_write_concern_destroy>>;
using Cursor = std::unique_ptr<mongoc_cursor_t, Deleter<&mongoc_cursor_destroy>>;

constexpr int kDuplicateKey = 11000;
constexpr auto kPause = std::chrono::milliseconds(100);

// Codes of a server that is no primary (any more), is starting, or is going away; and a write that no majority has.
constexpr std::uint32_t kNoPrimary[] = {6, 7, 64, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436};

bool passes(const bson_error_t& error) {
  return error.domain == MONGOC_ERROR_STREAM || error.domain == MONGOC_ERROR_SERVER_SELECTION ||
         std::find(std::begin(kNoPrimary), std::end(kNoPrimary), error.code) != std::end(kNoPrimary);
}

void start_library() {
  static std::once_flag once;
  std::call_once(once, [] {
    mongoc_init();  // never cleaned up: threads may still use it at exit
    mongoc_log_set_handler(
        [](mongoc_log_level_t, const char*, const char* message, void*) { log(LogLevel::kDebug, "MongoDB: {}", message); },
        nullptr);
  });
}

// Answers of commands: an empty one for each call.
struct Reply {
  bson_t bson;
  Reply() { bson_init(&bson); }
  ~Reply() { bson_destroy(&bson); }
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;
  bool has(const char* field) const { return bson_has_field(&bson, field); }
  std::int64_t number(const char* field) const {
    bson_iter_t found;
    return bson_iter_init_find(&found, &bson, field) ? bson_iter_as_int64(&found) : 0;
  }
};

Uri parsed(const std::string& text, std::chrono::milliseconds call_timeout) {
  bson_error_t error{};
  Uri uri(mongoc_uri_new_with_error(text.c_str(), &error));
  if (!uri)
    throw ConfigError(
        fmt::format("[mongodb] uri: expected mongodb://HOST[:PORT],.../DATABASE?...{}{}",
                    text.find('@') == std::string::npos ? ": " : "",  // a message may quote what is before it
                    text.find('@') == std::string::npos ? error.message : ""));
  for (const char* option :
       {MONGOC_URI_SERVERSELECTIONTIMEOUTMS, MONGOC_URI_SOCKETTIMEOUTMS, MONGOC_URI_CONNECTTIMEOUTMS})
    mongoc_uri_set_option_as_int32(uri.get(), option, static_cast<int>(call_timeout.count()));
  if (mongoc_write_concern_is_default(mongoc_uri_get_write_concern(uri.get()))) {
    const WriteConcern majority(mongoc_write_concern_new());
    mongoc_write_concern_set_wmajority(majority.get(), static_cast<int>(call_timeout.count()));
    mongoc_write_concern_set_journal(majority.get(), true);
    mongoc_uri_set_write_concern(uri.get(), majority.get());
  }
  if (!mongoc_uri_has_option(uri.get(), MONGOC_URI_RETRYWRITES))
    mongoc_uri_set_option_as_bool(uri.get(), MONGOC_URI_RETRYWRITES, true);
  mongoc_uri_set_appname(uri.get(), "alnair-manager");
  return uri;
}

std::string hosts_of(const mongoc_uri_t* uri) {
  std::string hosts;
  for (const mongoc_host_list_t* host = mongoc_uri_get_hosts(uri); host != nullptr; host = host->next)
    hosts += (hosts.empty() ? "" : ",") + std::string(host->host_and_port);
  return hosts.empty() ? "the hosts of its SRV record" : hosts;
}

}  // namespace

struct MongoDatabase::Connections {
  Pool pool;
  std::string database, where;
  std::chrono::milliseconds retry;

  // `work` gets the collection and where to put an error; false: it failed.
  template <typename Work>
  void run(const char* collection, const char* doing, const Work& work) {
    const auto deadline = std::chrono::steady_clock::now() + retry;
    for (;;) {
      bson_error_t error{};
      {
        const auto give_back = [this](mongoc_client_t* client) { mongoc_client_pool_push(pool.get(), client); };
        const std::unique_ptr<mongoc_client_t, decltype(give_back)> client(pop(), give_back);
        const Collection handle(mongoc_client_get_collection(client.get(), database.c_str(), collection));
        if (work(handle.get(), &error)) return;
      }
      if (!passes(error) || std::chrono::steady_clock::now() + kPause >= deadline)
        throw CacheError(fmt::format("{} fails while {}: {} (code {}).", where, doing, error.message, error.code));
      std::this_thread::sleep_for(kPause);
    }
  }

  mongoc_client_t* pop() {
    const BlockSignals block;  // the first one starts the pool's threads
    return mongoc_client_pool_pop(pool.get());
  }
};

MongoDatabase::MongoDatabase(const std::string& uri, std::chrono::milliseconds call_timeout,
                             std::chrono::milliseconds retry) {
  start_library();
  const Uri options = parsed(uri, call_timeout);
  where_ = "MongoDB at " + hosts_of(options.get());
  const char* database = mongoc_uri_get_database(options.get());
  Pool pool(mongoc_client_pool_new(options.get()));
  if (pool == nullptr)
    throw ConfigError("[mongodb] uri: asks for something that this libmongoc was built without, such as TLS");
  mongoc_client_pool_set_error_api(pool.get(), MONGOC_ERROR_API_VERSION_2);
  connections_.reset(new Connections{std::move(pool), database == nullptr ? "alnair" : database, where_, retry});
}

MongoDatabase::~MongoDatabase() = default;

bool MongoDatabase::put(const char* collection, const json& document) {
  const Bson bson = to_bson(document), filter = to_bson({{"_id", document.at("_id")}}), upsert = to_bson({{"upsert", true}});
  bool is_new = false;
  connections_->run(collection, "a record is written", [&](mongoc_collection_t* handle, bson_error_t* error) {
    Reply reply;
    const bool done = mongoc_collection_replace_one(handle, filter.get(), bson.get(),
                                                    upsert.get(), &reply.bson, error);
    is_new = reply.has("upsertedId");
    return done;
  });
  return is_new;
}

bool MongoDatabase::insert(const char* collection, const json& document) {
  const Bson bson = to_bson(document);
  bool is_new = true;
  connections_->run(collection, "a record is written", [&](mongoc_collection_t* handle, bson_error_t* error) {
    if (mongoc_collection_insert_one(handle, bson.get(), nullptr, nullptr, error))
      return true;
    is_new = error->code != kDuplicateKey;
    return !is_new;
  });
  return is_new;
}

bool MongoDatabase::update(const char* collection, const json& filter, const json& change) {
  const Bson selector = to_bson(filter), bson = to_bson(change);
  bool matched = false;
  connections_->run(collection, "a record is changed", [&](mongoc_collection_t* handle, bson_error_t* error) {
    Reply reply;
    const bool done = mongoc_collection_update_one(handle, selector.get(), bson.get(),
                                                   nullptr, &reply.bson, error);
    matched = reply.number("matchedCount") > 0;
    return done;
  });
  return matched;
}

void MongoDatabase::erase(const char* collection, const json& filter) {
  const Bson selector = to_bson(filter);
  connections_->run(collection, "records are removed", [&](mongoc_collection_t* handle, bson_error_t* error) {
    return mongoc_collection_delete_many(handle, selector.get(), nullptr, nullptr,
                                         error);
  });
}

std::vector<json> MongoDatabase::find(const char* collection, const json& filter) {
  const Bson selector = to_bson(filter), sorted = to_bson({{"sort", {{"_id", 1}}}});
  std::vector<json> found;
  connections_->run(collection, "records are read", [&](mongoc_collection_t* handle, bson_error_t* error) {
    found.clear();
    const Cursor cursor(mongoc_collection_find_with_opts(handle, selector.get(),
                                                         sorted.get(), nullptr));
    for (const bson_t* document = nullptr; mongoc_cursor_next(cursor.get(), &document);)
      found.push_back(from_bson(*document));
    return !mongoc_cursor_error(cursor.get(), error);
  });
  return found;
}

void MongoDatabase::make_index(const char* collection, const std::string& field) {
  const Bson command = to_bson({{"createIndexes", collection},
                                {"indexes", json::array({{{"key", {{field, 1}}}, {"name", field + "_1"}}})}});
  connections_->run(collection, "an index is made", [&](mongoc_collection_t* handle, bson_error_t* error) {
    return mongoc_collection_write_command_with_opts(handle, command.get(), nullptr,
                                                     nullptr, error);
  });
}

}  // namespace alnair::manager
