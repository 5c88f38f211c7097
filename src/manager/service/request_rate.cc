#include "manager/service/request_rate.h"

#include <algorithm>
#include <utility>

#include "alnair/core/error.h"
#include "core/block_signals.h"

namespace alnair::manager {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A read that waits for its turn, and the one that it becomes.
class LimitedRead final : public PendingRead {
 public:
  explicit LimitedRead(ReadDone done) : done_(std::move(done)) {}

  void begin(ObjectSource& source, ReadRequest request) {
    ReadDone done = take();
    if (!done) return;  // cancelled meanwhile
    auto read = source.read(std::move(request), std::move(done));
    const std::lock_guard lock(mutex_);
    read_ = std::move(read);
    if (cancelled_) read_->cancel();
  }

  void cancel() override {
    if (const ReadDone done = take()) {
      done({{}, std::make_exception_ptr(CancelledError("the read was cancelled before its turn came"))});
      return;
    }
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (read_ != nullptr) read_->cancel();
  }

 private:
  ReadDone take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(done_, nullptr);
  }

  std::mutex mutex_;
  ReadDone done_;  // empty: begun or cancelled
  std::shared_ptr<PendingRead> read_;
  bool cancelled_ = false;
};

class LimitedSource final : public ObjectSource {
 public:
  LimitedSource(std::shared_ptr<ObjectSource> source, std::shared_ptr<RequestRate> rate)
      : source_(std::move(source)), rate_(std::move(rate)) {}

  std::string identity() const override { return source_->identity(); }

  void list(std::span<const std::string> prefixes, const std::function<void(std::vector<ObjectInfo>&&)>& page,
            const Interrupt& interrupt) override {
    rate_->wait(interrupt);
    source_->list(
        prefixes,
        [&](std::vector<ObjectInfo>&& objects) {
          page(std::move(objects));
          rate_->wait(interrupt);  // for the next one
        },
        interrupt);
  }

  std::vector<std::string> names_below(std::string_view prefix, std::size_t limit, const Interrupt& interrupt) override {
    rate_->wait(interrupt);
    return source_->names_below(prefix, limit, interrupt);
  }

  std::optional<ObjectInfo> stat(std::string_view key, const Interrupt& interrupt) override {
    rate_->wait(interrupt);
    return source_->stat(key, interrupt);
  }

  std::shared_ptr<PendingRead> read(ReadRequest request, ReadDone done) override {
    auto read = std::make_shared<LimitedRead>(std::move(done));
    rate_->run([read, source = source_, request = std::move(request)]() mutable {
      read->begin(*source, std::move(request));
    });
    return read;
  }

 private:
  const std::shared_ptr<ObjectSource> source_;
  const std::shared_ptr<RequestRate> rate_;
};

}  // namespace

RequestRate::~RequestRate() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void RequestRate::set(std::uint64_t per_second) {
  const std::lock_guard lock(mutex_);
  per_second_ = per_second;
}

RequestRate::Time RequestRate::reserve(Time now) {
  const std::lock_guard lock(mutex_);
  if (per_second_ == 0) return now;
  // `next_` is when the last second's worth would be used up; it may lie a second ahead.
  next_ = std::max(next_, now) + std::chrono::duration_cast<Time::duration>(std::chrono::seconds(1)) / per_second_;
  return std::max(now, next_ - std::chrono::seconds(1));
}

void RequestRate::wait(const Interrupt& interrupt) {
  const Time turn = reserve(steady_clock::now());
  for (auto now = steady_clock::now(); now < turn; now = steady_clock::now()) {
    if (interrupt) interrupt();
    std::this_thread::sleep_for(std::min<Time::duration>(turn - now, milliseconds(100)));
  }
}

void RequestRate::run(std::function<void()> begin) {
  const auto now = steady_clock::now();
  const Time turn = reserve(now);
  {
    const std::lock_guard lock(mutex_);
    if (turn > now || !waiting_.empty()) {
      if (!thread_.joinable()) {
        const BlockSignals block;
        thread_ = std::thread([this] { serve(); });
      }
      waiting_.emplace_back(turn, std::move(begin));
      changed_.notify_one();
      return;
    }
  }
  begin();
}

void RequestRate::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return ending_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    if (!ending_ && changed_.wait_until(lock, waiting_.front().first, [&] { return ending_; })) continue;
    auto begin = std::move(waiting_.front().second);
    waiting_.pop_front();
    lock.unlock();
    begin();
    lock.lock();
  }
}

std::shared_ptr<ObjectSource> limited_source(std::shared_ptr<ObjectSource> source, std::shared_ptr<RequestRate> rate) {
  return std::make_shared<LimitedSource>(std::move(source), std::move(rate));
}

}  // namespace alnair::manager
