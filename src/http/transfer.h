// One request in flight, and the recycled libcurl handle that carries it.
//
// Thread safety: a Transfer belongs to its event loop's thread, except where it says otherwise.
#pragma once

#include <curl/curl.h>

#include <array>
#include <atomic>
#include <chrono>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "core/recycled_buffer.h"
#include "http/client.h"

namespace alnair {

class Transfer;

// Whoever started a transfer, and can cancel it.
class TransferOwner {
 public:
  virtual ~TransferOwner() = default;
  virtual void cancel(const std::shared_ptr<Transfer>& transfer) = 0;
};

template <auto Close>
struct CurlCloser {
  void operator()(void* handle) const { Close(handle); }
};
using EasyHandle = std::unique_ptr<CURL, CurlCloser<curl_easy_cleanup>>;

// An easy handle with all that libcurl keeps pointers to. Options that never change are set once.
class Easy {
 public:
  // `sockets` gets CURLOPT_CLOSESOCKETFUNCTION's calls; all outlive this.
  Easy(const std::string& ca_bundle, CURLSH* share, void* sockets, curl_closesocket_callback close_socket);

  // Makes the handle ready for `transfer`, which outlives the exchange.
  void prepare(Transfer& transfer);
  CURL* get() const { return handle_.get(); }
  const char* error_text() const { return error_.data(); }

 private:
  EasyHandle handle_;
  std::array<char, CURL_ERROR_SIZE> error_{};
  std::vector<curl_slist> lines_;  // the request's headers, linked in place: no copies
  HttpMethod method_ = HttpMethod::kGet;
  bool use_proxy_ = true;
  std::chrono::milliseconds connect_timeout_{0};
  std::string certificate_, key_;
  long receive_buffer_ = 0;  // bytes
};

class Transfer final : public HttpTransfer, public std::enable_shared_from_this<Transfer> {
 public:
  using Clock = std::chrono::steady_clock;

  Transfer(HttpRequest&& the_request, HttpDone&& the_done, std::weak_ptr<TransferOwner> owner)
      : request(std::move(the_request)), done(std::move(the_done)), owner_(std::move(owner)) {}

  void cancel() override {
    if (const auto owner = owner_.lock()) owner->cancel(shared_from_this());
  }
  std::optional<Clock::time_point> last_progress() const override {
    const Clock::rep ticks = progress_.load(std::memory_order_relaxed);
    if (ticks == 0) return std::nullopt;
    return Clock::time_point(Clock::duration(ticks));
  }

  // Called when it is handed to libcurl.
  void begin(std::unique_ptr<Easy> easy);
  // Takes libcurl's verdict into `response`.
  void end(CURLcode code);
  // Ends without a verdict.
  void fail(HttpFailure failure, const char* text);
  // What went wrong with time by `now`: kTimeout, kStalled or kNone.
  HttpFailure overdue(Clock::time_point now) const;

  HttpRequest request;
  HttpDone done;
  HttpResponse response;

  // For the client, under its mutex.
  enum class State { kQueued, kActive, kEnded } state = State::kQueued;
  std::list<std::shared_ptr<Transfer>>::iterator queue_position;
  std::size_t loop = 0;  // the number of its event loop

  std::atomic<bool> cancelled{false};  // before its loop has begun it

  // For the event loop: where this is in its list, and the handle; null before begin() and after the end.
  std::size_t index = 0;
  std::unique_ptr<Easy> easy;

 private:
  friend class Easy;
  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self);
  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self);
  bool make_room(std::size_t more);
  void freeze();

  const std::weak_ptr<TransferOwner> owner_;
  RecycledBuffer body_;
  std::uint64_t received_ = 0;
  std::uint64_t header_bytes_ = 0;
  bool too_large_ = false;
  Clock::time_point sent_{};
  std::atomic<Clock::rep> progress_{0};
};

}  // namespace alnair
