#include "s3/sigv4.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "alnair/core/error.h"
#include "core/ascii.h"

namespace alnair {
namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";
constexpr std::chrono::seconds kMaxExpires{7 * 24 * 3600};

// Proxies and clients change these, so they must not be part of a signature. Sorted.
constexpr std::string_view kUnsignedHeaders[] = {"accept-encoding",
                                                 "authorization",
                                                 "baggage",
                                                 "connection",
                                                 "expect",
                                                 "keep-alive",
                                                 "proxy-authenticate",
                                                 "proxy-authorization",
                                                 "te",
                                                 "traceparent",
                                                 "tracestate",
                                                 "trailer",
                                                 "transfer-encoding",
                                                 "upgrade",
                                                 "user-agent",
                                                 "x-amzn-trace-id"};

constexpr char kLowerHex[] = "0123456789abcdef";

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Signing takes no copies: it is done thousands of times a second.
struct HeaderView {
  std::string_view name, value;
  HeaderView(const Header& header) : name(header.name), value(header.value) {}
};

// In the order of their lower-case forms.
bool before(std::string_view a, std::string_view b) {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                      [](char x, char y) { return ascii_lower(x) < ascii_lower(y); });
}

void append_lower(std::string& out, std::string_view text) {
  for (const char c : text) out.push_back(ascii_lower(c));
}

std::string joined(std::initializer_list<std::string_view> parts) {
  std::size_t size = 0;
  for (const std::string_view part : parts) size += part.size();
  std::string text;
  text.reserve(size);
  for (const std::string_view part : parts) text.append(part);
  return text;
}

// Trimmed, with runs of spaces made one.
void append_header_value(std::string& out, std::string_view value) {
  bool pending = false, any = false;
  for (const char c : value) {
    if (is_space(c)) {
      pending = any;
      continue;
    }
    if (pending) out.push_back(' ');
    pending = false;
    any = true;
    out.push_back(c);
  }
}

// `headers` instead of request.headers; sorts them.
CanonicalRequest canonical_request(const SigningRequest& request, std::vector<HeaderView>& headers) {
  std::erase_if(headers, [](const HeaderView& header) {
    return std::binary_search(std::begin(kUnsignedHeaders), std::end(kUnsignedHeaders), header.name, before);
  });
  // By insertion: they are few, and repeated ones stay in their order.
  const auto by_name = [](const HeaderView& a, const HeaderView& b) { return before(a.name, b.name); };
  for (auto next = headers.begin(); next != headers.end(); ++next)
    std::rotate(std::upper_bound(headers.begin(), next, *next, by_name), next, next + 1);

  CanonicalRequest result;
  std::string& text = result.text;
  text.reserve(512 + request.encoded_path.size() + request.query.size());
  result.signed_headers.reserve(128);
  text.append(request.method).append("\n").append(request.encoded_path).append("\n").append(request.query);
  for (std::size_t i = 0; i < headers.size(); ++i) {
    const auto& [name, value] = headers[i];
    if (i > 0 && same_ignoring_case(headers[i - 1].name, name)) {
      text.push_back(',');  // a repeated header: one line with all its values
    } else {
      text.push_back('\n');
      append_lower(text, name);
      text.push_back(':');
      if (!result.signed_headers.empty()) result.signed_headers.push_back(';');
      append_lower(result.signed_headers, name);
    }
    append_header_value(text, value);
  }
  text.append("\n\n").append(result.signed_headers).append("\n").append(request.payload_hash);
  return result;
}

// Looked up once: EVP_sha256() would search OpenSSL's providers, under a lock, at every use. Never freed, so
// that it outlives all; found without a mutex, so that none can be inherited by a forked child.
const EVP_MD* sha256_algorithm() {
  static std::atomic<EVP_MD*> shared{nullptr};
  EVP_MD* algorithm = shared.load(std::memory_order_acquire);
  if (algorithm != nullptr) return algorithm;
  EVP_MD* fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  if (fetched == nullptr) throw Error("OpenSSL offers no SHA-256; requests cannot be signed");
  if (shared.compare_exchange_strong(algorithm, fetched, std::memory_order_acq_rel)) return fetched;
  EVP_MD_free(fetched);
  return algorithm;
}

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

Sha256Digest sha256_of(std::initializer_list<std::string_view> parts) {
  thread_local const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
  if (context == nullptr) throw std::bad_alloc();
  Sha256Digest digest;
  bool ok = EVP_DigestInit_ex(context.get(), sha256_algorithm(), nullptr) == 1;
  for (const std::string_view part : parts)
    ok = ok && EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1;
  if (!ok || EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1)
    throw Error("OpenSSL failed to compute a SHA-256; requests cannot be signed");
  return digest;
}

std::string_view as_text(const Sha256Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

}  // namespace

std::string canonical_query(std::span<const QueryParameter> parameters) {
  std::vector<std::pair<std::string, std::string>> encoded;
  encoded.reserve(parameters.size());
  for (const auto& [name, value] : parameters) encoded.emplace_back(percent_encoded(name), percent_encoded(value));
  std::sort(encoded.begin(), encoded.end());  // by name, then value, after encoding
  std::string query;
  for (const auto& [name, value] : encoded) {
    if (!query.empty()) query.push_back('&');
    query.append(name).append("=").append(value);
  }
  return query;
}

CanonicalRequest canonical_request(const SigningRequest& request) {
  std::vector<HeaderView> headers(request.headers.begin(), request.headers.end());
  return canonical_request(request, headers);
}

std::string amz_date(SigningTime time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(std::chrono::floor<std::chrono::seconds>(time - day));
  const auto year = static_cast<unsigned>(static_cast<int>(date.year()));
  std::string text("00000000T000000Z");
  const auto put = [&](std::size_t place, unsigned number) {  // two digits
    text[place] = static_cast<char>('0' + number / 10 % 10);
    text[place + 1] = static_cast<char>('0' + number % 10);
  };
  put(0, year / 100);
  put(2, year);
  put(4, static_cast<unsigned>(date.month()));
  put(6, static_cast<unsigned>(date.day()));
  put(9, static_cast<unsigned>(clock.hours().count()));
  put(11, static_cast<unsigned>(clock.minutes().count()));
  put(13, static_cast<unsigned>(clock.seconds().count()));
  return text;
}

std::string credential_scope(SigningTime time, std::string_view region, std::string_view service) {
  return joined({std::string_view(amz_date(time)).substr(0, 8), "/", region, "/", service, "/aws4_request"});
}

std::string string_to_sign(SigningTime time, std::string_view scope,
                           std::string_view canonical_request_text) {
  return joined({kAlgorithm, "\n", amz_date(time), "\n", scope, "\n", hex(sha256(canonical_request_text))});
}

Sha256Digest sha256(std::string_view bytes) { return sha256_of({bytes}); }

Sha256Digest hmac_sha256(std::string_view key, std::string_view message) {
  // RFC 2104, by hand: OpenSSL 3's own HMAC allocates and looks up its digest by name at every use.
  constexpr std::size_t kBlock = 64;
  Sha256Digest hashed;
  if (key.size() > kBlock) {
    hashed = sha256(key);
    key = as_text(hashed);
  }
  std::array<char, kBlock> inner, outer;
  for (std::size_t i = 0; i < kBlock; ++i) {
    const char byte = i < key.size() ? key[i] : '\0';
    inner[i] = static_cast<char>(byte ^ 0x36);
    outer[i] = static_cast<char>(byte ^ 0x5c);
  }
  const Sha256Digest digest = sha256_of({{inner.data(), kBlock}, message});
  return sha256_of({{outer.data(), kBlock}, as_text(digest)});
}

std::string hex(const Sha256Digest& digest) {
  std::string text(2 * digest.size(), '\0');
  for (std::size_t i = 0; i < digest.size(); ++i) {
    text[2 * i] = kLowerHex[digest[i] >> 4];
    text[2 * i + 1] = kLowerHex[digest[i] & 15];
  }
  return text;
}

Sha256Digest signing_key(std::string_view secret, SigningTime time, std::string_view region,
                         std::string_view service) {
  const Sha256Digest day = hmac_sha256(std::string("AWS4").append(secret), amz_date(time).substr(0, 8));
  const Sha256Digest regional = hmac_sha256(as_text(day), region);
  return hmac_sha256(as_text(hmac_sha256(as_text(regional), service)), "aws4_request");
}

std::string signature(const Sha256Digest& key, std::string_view text) {
  return hex(hmac_sha256(as_text(key), text));
}

Sha256Digest SigningKeyCache::get(std::string_view secret, SigningTime time, std::string_view region,
                                  std::string_view service) {
  std::string scope = credential_scope(time, region, service);
  const std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_)
    if (entry.scope == scope && entry.secret == secret) return entry.key;
  Entry& entry = entries_[next_++ % entries_.size()];
  entry = {std::string(secret), std::move(scope), signing_key(secret, time, region, service)};
  return entry.key;
}

std::vector<Header> sign_headers(const SigningRequest& request, const S3Credentials& credentials,
                                 std::string_view region, SigningTime time, SigningKeyCache& keys,
                                 std::string_view service) {
  std::vector<Header> added;
  added.reserve(4);
  added.push_back({"X-Amz-Date", amz_date(time)});
  if (service == "s3") added.push_back({"X-Amz-Content-SHA256", std::string(request.payload_hash)});
  if (!credentials.session_token.empty())
    added.push_back({"X-Amz-Security-Token", credentials.session_token});

  std::vector<HeaderView> all;
  all.reserve(request.headers.size() + added.size());
  all.insert(all.end(), request.headers.begin(), request.headers.end());
  all.insert(all.end(), added.begin(), added.end());
  const CanonicalRequest canonical = canonical_request(request, all);
  const std::string scope = credential_scope(time, region, service);
  const Sha256Digest key = keys.get(credentials.secret_access_key, time, region, service);
  added.push_back({"Authorization",
                   joined({kAlgorithm, " Credential=", credentials.access_key_id, "/", scope, ", SignedHeaders=",
                           canonical.signed_headers, ", Signature=", signature(key, string_to_sign(time, scope, canonical.text))})});
  return added;
}

std::string presign_query(std::string_view method, std::string_view host, std::string_view encoded_path,
                          std::span<const QueryParameter> parameters, const S3Credentials& credentials,
                          std::string_view region, SigningTime time, std::chrono::seconds expires,
                          SigningKeyCache& keys) {
  if (expires < std::chrono::seconds(1) || expires > kMaxExpires)
    throw ConfigError(fmt::format("A presigned URL can last from 1 second to 7 days (604800 s), not {} s.",
                                  expires.count()));
  const std::string scope = credential_scope(time, region);
  std::vector<QueryParameter> all(parameters.begin(), parameters.end());
  all.push_back({"X-Amz-Algorithm", std::string(kAlgorithm)});
  all.push_back({"X-Amz-Credential", fmt::format("{}/{}", credentials.access_key_id, scope)});
  all.push_back({"X-Amz-Date", amz_date(time)});
  all.push_back({"X-Amz-Expires", std::to_string(expires.count())});
  all.push_back({"X-Amz-SignedHeaders", "host"});
  if (!credentials.session_token.empty()) all.push_back({"X-Amz-Security-Token", credentials.session_token});
  std::string query = canonical_query(all);

  const Header host_header{"host", std::string(host)};
  const CanonicalRequest canonical =
      canonical_request({method, encoded_path, query, {&host_header, 1}, kUnsignedPayload});
  const std::string text = string_to_sign(time, scope, canonical.text);
  query.append("&X-Amz-Signature=")
      .append(signature(keys.get(credentials.secret_access_key, time, region), text));
  return query;
}

}  // namespace alnair
