#include "dataset/job/miss_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "alnair/core/error.h"
#include "core/block_signals.h"
#include "core/fork.h"
#include "core/percent.h"
#include "dataset/job/daemon_socket.h"
#include "http/client.h"

namespace alnair {
namespace {

using nlohmann::json;

constexpr std::size_t kMostChunks = 256;  // of one question
constexpr int kAttempts = 3;              // tiers may have dropped a chunk by the time that it is read there

struct Wanted {
  ReadRequest request;
  ReadDone done;
  std::uint64_t first = 0, last = 0;  // chunks of the object
  int attempts = 0;

  std::size_t chunks() const { return last - first + 1; }
};
using WantedPtr = std::shared_ptr<Wanted>;

std::exception_ptr failure(const std::string& what) { return std::make_exception_ptr(SourceError(what)); }

// Of one process: a queue, and a thread that asks for all that waits in it together.
class Asker : public std::enable_shared_from_this<Asker> {
 public:
  explicit Asker(MissSourceOptions options) : options_(std::move(options)), daemon_(options_.socket) {}

  // The end of what it serves may be that of the last who holds it: then its own thread ends it, behind its work.
  static std::shared_ptr<Asker> make(const MissSourceOptions& options) {
    return {new Asker(options), [](Asker* asker) {
              if (asker->thread_.get_id() != std::this_thread::get_id()) return delete asker;
              const std::lock_guard lock(asker->mutex_);
              asker->stopping_ = asker->ends_itself_ = true;
            }};
  }
  ~Asker() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    daemon_.stop();
    if (thread_.joinable()) thread_.join();
    for (const WantedPtr& wanted : queue_)
      wanted->done({{}, std::make_exception_ptr(CancelledError("the dataset was closed"))});
  }

  void add(WantedPtr wanted) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(wanted));
      if (!thread_.joinable()) {
        const BlockSignals block;
        thread_ = std::thread([this] {
          run();
          if (!ends_itself_) return;
          thread_.detach();
          delete this;
        });
      }
    }
    changed_.notify_one();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      std::vector<WantedPtr> batch;
      std::size_t chunks = 0;
      while (!queue_.empty() && (batch.empty() || chunks + queue_.front()->chunks() <= kMostChunks)) {
        chunks += queue_.front()->chunks();
        batch.push_back(std::move(queue_.front()));
        queue_.pop_front();
      }
      lock.unlock();
      try {
        serve(batch);
      } catch (const std::exception& error) {
        for (const WantedPtr& wanted : batch)
          if (wanted->done) std::exchange(wanted->done, {})({{}, failure(error.what())});
      }
      lock.lock();
    }
  }

  void serve(const std::vector<WantedPtr>& batch) {
    json chunks = json::array();
    for (const WantedPtr& wanted : batch)
      for (std::uint64_t chunk = wanted->first; chunk <= wanted->last; ++chunk)
        chunks.push_back({{"key", percent_encoded(wanted->request.object.key)}, {"chunk", chunk}});
    const json answer = daemon_.ask({{"chunks", chunks}});
    if (answer.contains("failure")) throw SourceError(answer.at("failure").get<std::string>());
    const json& places = answer.at("chunks");
    look_for_new_segments(places);
    std::size_t next = 0;
    for (const WantedPtr& wanted : batch) {
      std::vector<json> mine;
      for (std::size_t i = 0; i < wanted->chunks(); ++i) mine.push_back(places.at(next++));
      read(wanted, mine);
    }
  }

  // A host finds the others' segments now and then; what the manager has just written is to be found now.
  void look_for_new_segments(const json& places) {
    std::vector<ContentHash> hashes;
    for (const json& place : places)
      if (place.at("state") == "directory")
        if (const auto hash = ContentHash::from_hex(place.at("hash").get<std::string>())) hashes.push_back(*hash);
    const auto directory = options_.redis_and_directory().second;
    if (hashes.empty() || directory == nullptr) return;
    const std::unique_ptr<bool[]> present(new bool[hashes.size()]());
    directory->contains(hashes, {present.get(), hashes.size()});
    const bool all = std::all_of(present.get(), present.get() + hashes.size(), std::identity());
    if (!all) directory->durable(hashes, {present.get(), hashes.size()});
  }

  void read(const WantedPtr& wanted, const std::vector<json>& places) {
    std::string url;
    for (const json& place : places) {
      const std::string state = place.at("state");
      if (state == "failed")
        return end(*wanted, {{}, failure(fmt::format("{} of {}: {}", wanted->request.object.key, options_.identity,
                                                     place.at("failure").get<std::string>()))});
      if (state == "source") url = place.at("url");
    }
    if (!url.empty()) return download(wanted, url);
    read_from_tiers(wanted, places);
  }

  // Every chunk from where it is; the last to come puts them together.
  void read_from_tiers(const WantedPtr& wanted, const std::vector<json>& places) {
    struct Reading {
      WantedPtr wanted;
      std::vector<std::optional<View>> parts;
      std::atomic<std::size_t> left;
    };
    const auto reading = std::make_shared<Reading>();
    reading->wanted = wanted;
    reading->parts.resize(places.size());
    reading->left = places.size();
    const auto [redis, directory] = options_.redis_and_directory();
    for (std::size_t i = 0; i < places.size(); ++i) {
      const auto hash = ContentHash::from_hex(places[i].at("hash").get<std::string>());
      const std::shared_ptr<Tier> tier = places[i].at("state") == "redis" ? redis : directory;
      const auto arrived = [self = shared_from_this(), reading, i](std::optional<View> view) {
        reading->parts[i] = std::move(view);
        if (--reading->left == 0) self->assemble(reading->wanted, std::move(reading->parts));
      };
      if (!hash || tier == nullptr) {
        arrived(std::nullopt);
        continue;
      }
      const ContentHash wanted_hash = *hash;
      tier->get({&wanted_hash, 1}, [arrived](std::size_t, std::optional<View> view) { arrived(std::move(view)); });
    }
  }

  void assemble(const WantedPtr& wanted, std::vector<std::optional<View>> parts) {
    const ReadRequest& request = wanted->request;
    const std::uint64_t size = request.object.size, chunk_size = options_.chunk_size;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::uint64_t begin = (wanted->first + i) * chunk_size;
      if (parts[i] && parts[i]->size() == std::min(chunk_size, size - begin)) continue;
      if (++wanted->attempts < kAttempts) return add(wanted);  // it is gone: the manager brings it again
      return end(*wanted, {{}, failure(fmt::format("{} of {}: the manager's cache drops it as soon as it has it",
                                                   request.object.key, options_.identity))});
    }
    const std::uint64_t skip = request.offset - wanted->first * chunk_size;
    if (parts.size() == 1) return end(*wanted, {parts[0]->part(skip, request.length), nullptr});
    Buffer whole(request.length);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::uint64_t begin = (wanted->first + i) * chunk_size;
      const std::uint64_t from = std::max(begin, request.offset);
      const std::uint64_t until = std::min(begin + parts[i]->size(), request.offset + request.length);
      std::memcpy(whole.data() + (from - request.offset), parts[i]->data() + (from - begin), until - from);
    }
    end(*wanted, {std::move(whole).freeze(), nullptr});
  }

  void download(const WantedPtr& wanted, const std::string& url) {
    const ReadRequest& asked = wanted->request;
    HttpRequest request;
    request.url = url;
    request.headers.add("Range", fmt::format("bytes={}-{}", asked.offset, asked.offset + asked.length - 1));
    request.expected_bytes = asked.length;
    request.max_body_bytes = std::max<std::uint64_t>(asked.length, 64 << 10);
    if (http_ == nullptr) http_ = make_http_client({.max_connections = 8, .max_requests = 8});
    http_->start(std::move(request), [wanted, identity = options_.identity](HttpResponse&& response) {
      const ObjectInfo& object = wanted->request.object;
      std::string etag(response.headers.find("ETag").value_or(""));
      std::erase(etag, '"');
      if (response.ok() && !etag.empty() && !object.etag.empty() && etag != object.etag)
        return end(*wanted, {{}, std::make_exception_ptr(
                                     ChangedError(fmt::format("{} of {} has changed", object.key, identity)))});
      if (response.ok() && response.body.size() == wanted->request.length)
        return end(*wanted, {std::move(response.body), nullptr});
      const bool answered = response.failure == HttpFailure::kNone;
      end(*wanted, {{}, failure(fmt::format("{} of {} cannot be read by the manager's URL: {}", object.key, identity,
                                            answered ? fmt::format("status {}", response.status)
                                                     : response.failure_text))});
    });
  }

  static void end(Wanted& wanted, ReadResult result) { std::exchange(wanted.done, {})(std::move(result)); }

  const MissSourceOptions options_;
  DaemonSocket daemon_;               // the thread's
  std::shared_ptr<HttpClient> http_;  // likewise
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool ends_itself_ = false;  // set on its own thread
  std::deque<WantedPtr> queue_;
  std::thread thread_;
};

class Uncancelled final : public PendingRead {
 public:
  void cancel() override {}  // the answer comes within the daemon's patience
};

class MissSource final : public ObjectSource {
 public:
  explicit MissSource(MissSourceOptions options)
      : options_(std::move(options)), asker_([this] { return Asker::make(options_); }) {}

  std::string identity() const override { return options_.identity; }
  void list(std::span<const std::string>, const std::function<void(std::vector<ObjectInfo>&&)>&,
            const Interrupt&) override {
    refuse();
  }
  std::vector<std::string> names_below(std::string_view, std::size_t, const Interrupt&) override { refuse(); }
  std::optional<ObjectInfo> stat(std::string_view, const Interrupt&) override { refuse(); }
  bool fills_shared_tiers() const override { return true; }

  std::shared_ptr<PendingRead> read(ReadRequest request, ReadDone done) override {
    auto wanted = std::make_shared<Wanted>();
    wanted->first = request.offset / options_.chunk_size;
    wanted->last = (request.offset + request.length - 1) / options_.chunk_size;
    wanted->request = std::move(request);
    wanted->done = std::move(done);
    asker_.get()->add(std::move(wanted));
    return std::make_shared<Uncancelled>();
  }

 private:
  [[noreturn]] void refuse() const {
    throw AccessError(fmt::format("{} cannot be listed: there are no S3 credentials, only a manager's daemon",
                                  options_.identity));
  }

  const MissSourceOptions options_;
  ForkLocal<Asker> asker_;
};

}  // namespace

std::shared_ptr<ObjectSource> open_miss_source(MissSourceOptions options) {
  return std::make_shared<MissSource>(std::move(options));
}

}  // namespace alnair
