#include "http/transfer.h"

#include <algorithm>
#include <cstring>

namespace alnair {
namespace {

// Bytes. libcurl makes a buffer for each exchange: of long bodies it takes a third less CPU in large pieces, of short ones with a
// buffer that malloc has at hand.
constexpr long kReceiveBuffer = 512 << 10, kReceiveStep = 16 << 10;
constexpr long kIdleSeconds = 4;            // S3 closes idle connections after about five
constexpr std::uint64_t kHeaderLimit = 256 << 10;  // bytes of an answer's headers
constexpr std::size_t kHeaderRoom = 512;           // bytes: usually all of them

HttpFailure failure_of(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return HttpFailure::kResolve;
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY:
      return HttpFailure::kConnect;
    case CURLE_OPERATION_TIMEDOUT:  // the only timeout that libcurl is given
      return HttpFailure::kConnectTimeout;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
      return HttpFailure::kTlsCertificate;
    case CURLE_SSL_CACERT_BADFILE:
      return HttpFailure::kCaBundle;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CIPHER:
    case CURLE_USE_SSL_FAILED:
      return HttpFailure::kTls;
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_UNSUPPORTED_PROTOCOL:  // an answer that is not HTTP/1
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_WRITE_ERROR:  // on_header refused
      return HttpFailure::kBroken;
    default:
      return HttpFailure::kOther;
  }
}

long receive_buffer_for(std::uint64_t body) {
  if (body == 0 || body >= kReceiveBuffer - kReceiveStep) return kReceiveBuffer;  // 0: unknown
  return (static_cast<long>(body + kHeaderRoom) / kReceiveStep + 1) * kReceiveStep;
}

}  // namespace

Easy::Easy(const std::string& ca_bundle, CURLSH* share, void* sockets, curl_closesocket_callback close_socket)
    : handle_(curl_easy_init()) {
  if (!handle_) throw std::bad_alloc();
  CURL* const easy = handle_.get();
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, kIdleSeconds);
  curl_easy_setopt(easy, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
#if LIBCURL_VERSION_NUM >= 0x075700
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // a hanging resolver must not hang the loop that cancels
#endif
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_.data());
  curl_easy_setopt(easy, CURLOPT_SHARE, share);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, sockets);
  curl_easy_setopt(easy, CURLOPT_KEYPASSWD, "");  // a passphrase is never asked for on the terminal
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Transfer::on_header);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Transfer::on_body);
  if (!ca_bundle.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, ca_bundle.c_str());
}

void Easy::prepare(Transfer& transfer) {
  const HttpRequest& request = transfer.request;
  CURL* const easy = handle_.get();
  error_[0] = '\0';
  curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy, CURLOPT_PRIVATE, &transfer);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);

  if (certificate_ != request.client_certificate || key_ != request.client_key) {
    const auto text_or_null = [](const std::string& text) { return text.empty() ? nullptr : text.c_str(); };
    curl_easy_setopt(easy, CURLOPT_SSLCERT, text_or_null(request.client_certificate));
    curl_easy_setopt(easy, CURLOPT_SSLKEY, text_or_null(request.client_key));
    certificate_ = request.client_certificate;
    key_ = request.client_key;
  }

  lines_.clear();
  request.headers.for_each_line([&](std::string_view line) {
    lines_.push_back({const_cast<char*>(line.data()), nullptr});
  });
  for (std::size_t i = 1; i < lines_.size(); ++i) lines_[i - 1].next = &lines_[i];
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, lines_.empty() ? nullptr : lines_.data());

  if (method_ != request.method || request.method == HttpMethod::kPost ||
      request.method == HttpMethod::kPut) {
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, nullptr);
    curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);  // undoes NOBODY and POST
    switch (request.method) {
      case HttpMethod::kGet:
        break;
      case HttpMethod::kHead:
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        break;
      case HttpMethod::kDelete:
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "DELETE");
        break;
      case HttpMethod::kPut:
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "PUT");
        [[fallthrough]];
      case HttpMethod::kPost:
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.data());
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
        break;
    }
    method_ = request.method;
  }
  if (use_proxy_ != request.use_proxy) {
    curl_easy_setopt(easy, CURLOPT_NOPROXY, request.use_proxy ? nullptr : "*");
    use_proxy_ = request.use_proxy;
  }
  if (const long buffer = receive_buffer_for(request.expected_bytes); buffer != receive_buffer_) {
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, buffer);
    receive_buffer_ = buffer;
  }
  if (connect_timeout_ != request.connect_timeout) {
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.connect_timeout.count()));
    connect_timeout_ = request.connect_timeout;
  }
}

void Transfer::begin(std::unique_ptr<Easy> handle) {
  easy = std::move(handle);
  easy->prepare(*this);
  sent_ = Clock::now();
  progress_.store(sent_.time_since_epoch().count(), std::memory_order_relaxed);
}

void Transfer::end(CURLcode code) {
  if (too_large_) return fail(HttpFailure::kTooLarge, "the answer is longer than was asked for");
  if (code != CURLE_OK) {
    const char* text = easy->error_text();
    return fail(failure_of(code), *text != '\0' ? text : curl_easy_strerror(code));
  }
  long status = 0;
  curl_easy_getinfo(easy->get(), CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  freeze();
}

void Transfer::fail(HttpFailure failure, const char* text) {
  if (easy) {
    long status = 0;
    curl_easy_getinfo(easy->get(), CURLINFO_RESPONSE_CODE, &status);
    response.status = static_cast<int>(status);
  }
  response.failure = failure;
  response.failure_text = text;
  freeze();
}

void Transfer::freeze() {
  if (sent_ != Clock::time_point{}) response.elapsed = Clock::now() - sent_;
  if (received_ > 0) response.body = std::move(body_).freeze(received_);
}

HttpFailure Transfer::overdue(Clock::time_point now) const {
  if (now - sent_ > request.timeout) return HttpFailure::kTimeout;
  return now - *last_progress() > request.stall_timeout ? HttpFailure::kStalled : HttpFailure::kNone;
}

std::size_t Transfer::on_header(char* data, std::size_t size, std::size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const Clock::time_point now = Clock::now();
  transfer.progress_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  std::string_view line(data, size * count);
  if (line.starts_with("HTTP/")) {  // also after an interim answer or a proxy's
    transfer.response.headers.clear();
    transfer.response.headers.reserve(kHeaderRoom);
    transfer.response.first_byte_after = now - transfer.sent_;
    return size * count;
  }
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
  transfer.header_bytes_ += line.size();
  if (transfer.header_bytes_ > kHeaderLimit) return 0;
  if (!line.empty()) transfer.response.headers.add_line(line.substr(0, line.find('\0')));
  return size * count;
}

// libcurl hands over at most 16 KiB at once; each piece is copied once, to its final place.
std::size_t Transfer::on_body(char* data, std::size_t size, std::size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const std::size_t bytes = size * count;
  transfer.progress_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
  if (!transfer.make_room(bytes)) {
    transfer.too_large_ = true;
    return 0;
  }
  std::memcpy(transfer.body_.data() + transfer.received_, data, bytes);
  transfer.received_ += bytes;
  return bytes;
}

bool Transfer::make_room(std::size_t more) {
  const std::uint64_t needed = received_ + more;
  if (needed <= body_.size()) return true;
  if (needed > request.max_body_bytes) return false;
  curl_off_t announced = -1;
  if (received_ == 0) curl_easy_getinfo(easy->get(), CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
  if (announced > 0 && static_cast<std::uint64_t>(announced) > request.max_body_bytes) return false;
  const std::uint64_t room =
      announced > 0 ? std::max<std::uint64_t>(announced, needed)
                    : std::min(std::max<std::uint64_t>(2 * needed, 4096), request.max_body_bytes);
  RecycledBuffer larger(room);
  if (received_ > 0) std::memcpy(larger.data(), body_.data(), received_);
  body_ = std::move(larger);
  return true;
}

}  // namespace alnair
