// HTTP requests on event-loop threads. The one seam over libcurl: tests implement HttpClient to fake a
// network.
//
// Any status is an outcome; so is a failed transfer (HttpResponse::failure). Redirects are not followed,
// nothing is retried, and the path of a URL is sent as it stands ("//" and ".." included).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "alnair/core/bytes.h"
#include "http/headers.h"

namespace alnair {

class RequestSlots;

enum class HttpMethod { kGet, kHead, kPost, kPut, kDelete };

struct HttpRequest {
  HttpMethod method = HttpMethod::kGet;
  std::string url;      // percent-encoded
  HttpHeaders headers;  // Host, Content-Length and the like are added
  std::string body;     // of POST and PUT

  // Runs on the event loop's thread right before sending, and may change all that is above (what must be
  // fresh, such as a signature). If it throws, the request fails with kOther.
  std::function<void(HttpRequest&)> prepare;
  bool ahead = false;  // goes before what waits in the queue (a retry)

  std::uint64_t expected_bytes = 0;  // of the answer; counts against HttpClientOptions::max_bytes_in_flight
  std::uint64_t max_body_bytes = 16ull << 20;  // a longer answer fails with kTooLarge
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds stall_timeout{10'000};  // once sent: no byte for so long
  std::chrono::milliseconds timeout{
      60'000};            // from sending to the last byte; waiting in the queue does not count
  bool use_proxy = true;  // false: ignore the environment's (link-local services)
  std::string client_certificate, client_key;  // PEM files, the key without a passphrase; empty: none is shown
};

enum class HttpFailure {
  kNone,
  kCancelled,
  kTimeout,  // HttpRequest::timeout
  kStalled,  // HttpRequest::stall_timeout
  kResolve,  // the host's name, or the proxy's, is unknown
  kConnect,  // refused or unreachable
  kConnectTimeout,
  kTls,             // the handshake failed
  kTlsCertificate,  // the server's certificate is not trusted
  kCaBundle,        // the file of certificates to trust cannot be used
  kBroken,          // the connection ended early, or the answer is no HTTP
  kTooLarge,        // HttpRequest::max_body_bytes
  kOther,           // malformed URL...
};

struct HttpResponse {
  HttpFailure failure = HttpFailure::kNone;
  std::string failure_text;                      // for people: what libcurl says; empty on success
  int status = 0;                                // 0: no answer came
  HttpHeaders headers;                           // the status line is not among them
  View body;                                     // what has arrived, on failures too
  std::chrono::nanoseconds first_byte_after{0};  // from sending (not from queueing); 0: none came
  std::chrono::nanoseconds elapsed{0};           // from sending to the end

  bool ok() const { return failure == HttpFailure::kNone && status >= 200 && status < 300; }
};
using HttpDone = std::function<void(HttpResponse&&)>;

// A request that was started. Dropping it does not cancel.
class HttpTransfer {
 public:
  virtual ~HttpTransfer() = default;

  // Makes `done` run soon with kCancelled, unless it has run or is running. Idempotent, thread-safe.
  virtual void cancel() = 0;

  // When the last byte came, or else when the request was sent; nullopt while it waits in the queue.
  // Thread-safe.
  virtual std::optional<std::chrono::steady_clock::time_point> last_progress() const = 0;
};

// Thread safety: all methods may be called from any thread at once, from `done` too. Not to be used in a
// forked child: keep clients in a ForkLocal.
class HttpClient {
 public:
  virtual ~HttpClient() = default;

  // Queues the request, in order of submission, and returns at once. `done` runs exactly once, on an
  // event-loop thread; it must be quick and must not block or throw.
  virtual std::shared_ptr<HttpTransfer> start(HttpRequest request, HttpDone done) = 0;

  // Runs `task` on an event-loop thread after `delay`; drops it if the client is destroyed first.
  virtual void run_after(std::chrono::milliseconds delay, std::function<void()> task) = 0;

  // Changes HttpClientOptions::max_requests; what is already in flight stays.
  virtual void set_max_requests(int limit) = 0;

  // start(), then waits. `interrupt` (may be empty) is called every 100 ms; if it throws, the request is
  // cancelled. Not to be called on an event-loop thread.
  HttpResponse call(HttpRequest request, const std::function<void()>& interrupt = {});
};

struct HttpClientOptions {
  int threads = 1;
  int max_connections = 32;  // open, idle ones included
  int max_requests = 32;     // in flight; the rest waits
  std::uint64_t max_bytes_in_flight = 256ull
                                      << 20;  // sum of expected_bytes; one request is always let through
  std::string ca_bundle = {};                 // file; empty: find_ca_bundle()

  // Where set, the two limits of connections and requests hold for all clients that share it (request_slots.h).
  std::shared_ptr<RequestSlots> slots = nullptr;
};

// libcurl's multi interface. Threads and sockets are made by the first request. Destroying the client, or the
// end of the process, ends what is in flight with kCancelled.
std::shared_ptr<HttpClient> make_http_client(const HttpClientOptions& options);

}  // namespace alnair
