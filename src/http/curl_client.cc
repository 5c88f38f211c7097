// The HttpClient over libcurl: admits requests within the limits, in order, and spreads them over event
// loops.
#include <algorithm>
#include <cstdlib>
#include <list>
#include <mutex>
#include <optional>
#include <utility>

#include "alnair/core/error.h"
#include "core/ca_bundle.h"
#include "core/end_at_exit.h"
#include "http/client.h"
#include "http/event_loop.h"
#include "http/shared_limit.h"

namespace alnair {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

void initialise_libraries() {
  static const bool done = [] {
    curl_global_init(CURL_GLOBAL_DEFAULT);  // never torn down: others in this process may use libcurl
    return true;
  }();
  (void)done;
}

// Lets go of `done` and `prepare`: they may own whoever holds the transfer.
void report(Transfer& transfer) {
  const HttpDone done = std::exchange(transfer.done, nullptr);
  transfer.request.prepare = nullptr;
  done(std::move(transfer.response));
}

class Engine final : public TransferOwner, public std::enable_shared_from_this<Engine> {
 public:
  explicit Engine(const HttpClientOptions& options)
      : options_(options), limit_(std::min(options.max_requests, options.max_connections)) {
    if (options_.ca_bundle.empty()) options_.ca_bundle = find_ca_bundle();
  }

  std::shared_ptr<HttpTransfer> start(HttpRequest&& request, HttpDone&& done) {
    auto transfer = std::make_shared<Transfer>(std::move(request), std::move(done), weak_from_this());
    std::shared_ptr<EventLoop> loop;
    try {
      const std::lock_guard lock(mutex_);
      make_loops();
      const bool ahead = transfer->request.ahead;
      if ((ahead || queue_.empty()) && fits(*transfer)) {
        loop = admit(*transfer, least_busy());
      } else {
        transfer->queue_position = queue_.insert(ahead ? queue_.begin() : queue_.end(), transfer);
      }
      schedule_look();
    } catch (const Error& error) {
      const bool cancelled = dynamic_cast<const CancelledError*>(&error) != nullptr;
      transfer->state = Transfer::State::kEnded;
      transfer->fail(cancelled ? HttpFailure::kCancelled : HttpFailure::kOther, error.what());
      report(*transfer);
      return transfer;
    }
    if (loop) loop->start(transfer);
    return transfer;
  }

  void cancel(const std::shared_ptr<Transfer>& transfer) override {
    std::shared_ptr<EventLoop> loop;
    const bool queued = [&] {
      const std::lock_guard lock(mutex_);
      if (transfer->cancelled.exchange(true) || transfer->state == Transfer::State::kEnded) return false;
      const bool waits = transfer->state == Transfer::State::kQueued;
      if (waits) {
        queue_.erase(transfer->queue_position);
        admit(*transfer, least_busy());  // past the limits: the loop ends it without sending it
      }
      loop = loops_[transfer->loop];
      return waits;
    }();
    if (queued) {
      loop->start(transfer);
    } else if (loop) {
      loop->cancel(transfer);
    }
  }

  void run_after(milliseconds delay, std::function<void()> task) {
    std::shared_ptr<EventLoop> loop;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      make_loops();
      loop = loops_[0];
    }
    loop->run_after(delay, std::move(task));
  }

  void set_max_requests(int limit) {
    {
      const std::lock_guard lock(mutex_);
      limit_ = std::clamp(limit, 1, options_.max_connections);
    }
    start_what_fits();
  }

  void stop(EventLoop::Clock::duration patience) {
    std::list<std::shared_ptr<Transfer>> queue;
    std::vector<std::shared_ptr<EventLoop>> loops;
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      queue.swap(queue_);
      for (const auto& transfer : queue) transfer->state = Transfer::State::kEnded;
      loops = loops_;
    }
    for (const auto& loop : loops) loop->stop(patience);
    for (const auto& transfer : queue) {
      transfer->fail(HttpFailure::kCancelled, "the client is stopping");
      report(*transfer);
    }
  }

 private:
  // The following are called with mutex_ held.
  void make_loops() {
    if (stopping_) throw CancelledError("the client is stopping");
    if (!loops_.empty()) return;
    initialise_libraries();
    at_exit_.emplace([self = weak_from_this()] {
      if (const auto engine = self.lock()) engine->stop(seconds(1));
    });
    const int count = std::max(1, options_.threads);
    const int connections = (options_.max_connections + count - 1) / count;
    std::vector<std::shared_ptr<EventLoop>> loops;
    for (int i = 0; i < count; ++i) {
      loops.push_back(EventLoop::create(options_.ca_bundle, connections,
                                        [engine = weak_from_this()](std::shared_ptr<Transfer> transfer) {
                                          const auto self = engine.lock();
                                          if (self) return self->finished(transfer);
                                          report(*transfer);
                                        }));
    }
    loops_ = std::move(loops);
    active_.assign(loops_.size(), 0);
    if (auto share = options_.slots ? options_.slots->join() : nullptr)
      shared_.emplace(std::move(share), std::min(options_.max_requests, options_.max_connections));
  }

  // To be followed by admit(), if it is true.
  bool fits(const Transfer& transfer) {
    return in_flight_ < limit_ &&
           (in_flight_ == 0 || bytes_ + transfer.request.expected_bytes <= options_.max_bytes_in_flight) &&
           (!shared_ || shared_->admits(in_flight_, EventLoop::Clock::now()));
  }

  void schedule_look() {
    if (!shared_ || stopping_) return;
    if (const int kept = shared_->kept(); kept != kept_connections_) {
      kept_connections_ = kept;
      const int loops = static_cast<int>(loops_.size());
      for (const auto& loop : loops_) loop->keep_connections((kept + loops - 1) / loops);
    }
    const auto due = shared_->look_at();
    if (!due || (look_due_ && *look_due_ <= *due)) return;
    look_due_ = due;
    loops_[0]->run_after(*due - EventLoop::Clock::now(), [engine = weak_from_this()] {
      if (const auto self = engine.lock()) self->look();
    });
  }

  std::size_t least_busy() const {
    return static_cast<std::size_t>(std::min_element(active_.begin(), active_.end()) - active_.begin());
  }

  const std::shared_ptr<EventLoop>& admit(Transfer& transfer, std::size_t loop) {
    transfer.state = Transfer::State::kActive;
    transfer.loop = loop;
    ++in_flight_;
    ++active_[loop];
    bytes_ += transfer.request.expected_bytes;
    return loops_[loop];
  }

  // On the loop's thread. What takes the finished one's place starts before `done` runs, to keep the server
  // busy.
  void finished(const std::shared_ptr<Transfer>& transfer) {
    {
      const std::lock_guard lock(mutex_);
      transfer->state = Transfer::State::kEnded;
      --in_flight_;
      --active_[transfer->loop];
      bytes_ -= transfer->request.expected_bytes;
      if (shared_) shared_->ended(in_flight_, EventLoop::Clock::now());
    }
    start_what_fits();
    report(*transfer);
  }

  void look() {
    {
      const std::lock_guard lock(mutex_);
      look_due_.reset();
      if (stopping_) return;
      shared_->look(in_flight_, !queue_.empty(), EventLoop::Clock::now());
    }
    start_what_fits();
  }

  void start_what_fits() {
    for (;;) {
      std::shared_ptr<Transfer> next;
      std::shared_ptr<EventLoop> loop;
      {
        const std::lock_guard lock(mutex_);
        if (queue_.empty() || !fits(*queue_.front())) return schedule_look();
        next = std::move(queue_.front());
        queue_.pop_front();
        loop = admit(*next, least_busy());
      }
      loop->start(std::move(next));
    }
  }

  HttpClientOptions options_;
  std::mutex mutex_;
  bool stopping_ = false;  // all guarded by mutex_
  int limit_;
  int in_flight_ = 0;
  std::uint64_t bytes_ = 0;                        // sum of expected_bytes in flight
  std::list<std::shared_ptr<Transfer>> queue_;     // in order of submission
  std::vector<std::shared_ptr<EventLoop>> loops_;  // made once
  std::vector<int> active_;                        // transfers of each loop
  std::optional<SharedLimit> shared_;              // with HttpClientOptions::slots
  std::optional<EventLoop::Clock::time_point> look_due_;
  int kept_connections_ = 0;  // as the loops know it
  std::optional<EndAtExit> at_exit_;  // made with the loops
};

class CurlClient final : public HttpClient {
 public:
  explicit CurlClient(const HttpClientOptions& options)
      : engine_(std::make_shared<Engine>(options)) {}
  ~CurlClient() override { engine_->stop(seconds(10)); }

  std::shared_ptr<HttpTransfer> start(HttpRequest request, HttpDone done) override {
    return engine_->start(std::move(request), std::move(done));
  }
  void run_after(milliseconds delay, std::function<void()> task) override {
    engine_->run_after(delay, std::move(task));
  }
  void set_max_requests(int limit) override { engine_->set_max_requests(limit); }

 private:
  const std::shared_ptr<Engine> engine_;
};

}  // namespace

std::shared_ptr<HttpClient> make_http_client(const HttpClientOptions& options) {
  return std::make_shared<CurlClient>(options);
}

}  // namespace alnair
