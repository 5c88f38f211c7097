#include "source/url.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "alnair/core/error.h"
#include "core/ascii.h"
#include "core/percent.h"

namespace alnair {
namespace {

constexpr std::string_view kSourceForms = "s3://BUCKET, s3://BUCKET/PATH or file:///DIRECTORY";
constexpr std::string_view kEndpointForms = "http://HOST[:PORT] or https://HOST[:PORT]";

bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The URL for a message: printable, bounded, and without what stands before an '@', which may be a password.
std::string shown(std::string_view url) {
  const std::size_t scheme_end = url.find("://");
  const std::size_t start = scheme_end == std::string_view::npos ? 0 : scheme_end + 3;
  const std::size_t at = url.find_last_of('@');
  std::string visible(url);
  if (at != std::string_view::npos && at >= start) visible.replace(start, at - start, "***");
  std::string text;
  for (const char c : visible.substr(0, 200)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      text += fmt::format("\\x{:02x}", byte);
    else
      text.push_back(c);
  }
  if (visible.size() > 200) text += "...";
  return text;
}

[[noreturn]] void fail(std::string_view option, std::string_view url, std::string_view what) {
  throw ConfigError(fmt::format("{} '{}' {}.", option, shown(url), what));
}

// Takes "scheme://" from the front of `rest` and returns the scheme in lower case; nullopt: there is none.
std::optional<std::string> take_scheme(std::string_view& rest) {
  const std::size_t end = rest.find("://");
  if (end == std::string_view::npos || end == 0) return std::nullopt;
  std::string scheme;
  for (const char c : rest.substr(0, end)) {
    if (!is_alpha(c) && !is_digit(c)) return std::nullopt;
    scheme.push_back(ascii_lower(c));
  }
  rest.remove_prefix(end + 3);
  return scheme;
}

SourceUrl parse_s3(std::string_view rest, std::string_view url, std::string_view option) {
  const std::size_t slash = rest.find('/');
  SourceUrl result{SourceUrl::Kind::kS3, std::string(rest.substr(0, slash)), ""};
  if (slash != std::string_view::npos) result.path = rest.substr(slash + 1);
  if (result.bucket.empty()) fail(option, url, "names no bucket; expected s3://BUCKET or s3://BUCKET/PATH");
  if (result.bucket.find('@') != std::string::npos)
    fail(option, url, "contains an '@'; credentials do not belong in a URL (see AWS_ACCESS_KEY_ID)");
  for (const char c : result.bucket)
    if (!is_alpha(c) && !is_digit(c) && c != '.' && c != '-' && c != '_')
      fail(option, url, "names no bucket: a bucket's name has only letters, digits, '.', '-' and '_'");
  if (result.bucket.size() > 255) fail(option, url, "names a bucket of more than 255 characters");
  if (result.path.size() > 1024)
    fail(option, url, "has a path of more than 1,024 bytes, the most that S3 allows");
  return result;
}

SourceUrl parse_file(std::string_view rest, std::string_view url, std::string_view option) {
  constexpr std::string_view kLocalhost = "localhost/";
  if (rest.substr(0, kLocalhost.size()) == kLocalhost) rest.remove_prefix(kLocalhost.size() - 1);
  if (rest.empty() || rest.front() != '/')
    fail(option, url, "names no absolute path; expected file:///DIRECTORY (three slashes)");
  auto path = percent_decoded(rest);
  if (!path) fail(option, url, "has a '%' that begins no %XX escape; write a literal '%' as %25");
  if (path->find('\0') != std::string::npos) fail(option, url, "contains a zero byte");
  return {SourceUrl::Kind::kFile, "", std::move(*path)};
}

bool is_ipv4(const std::string& host) {
  in_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1;
}

bool is_ipv6(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

// Takes the host from the front of `rest`.
std::string take_host(std::string_view& rest, std::string_view url, std::string_view option) {
  std::string host;
  if (!rest.empty() && rest.front() == '[') {
    const std::size_t end = rest.find(']');
    const std::string address(rest.substr(1, end == std::string_view::npos ? 0 : end - 1));
    if (!is_ipv6(address)) fail(option, url, "has no valid IPv6 address between '[' and ']'");
    host = "[" + address + "]";
    rest.remove_prefix(end + 1);
  } else {
    host = rest.substr(0, rest.find(':'));
    rest.remove_prefix(host.size());
    if (host.empty()) fail(option, url, fmt::format("names no host; expected {}", kEndpointForms));
    if (rest.find(':', 1) != std::string_view::npos)
      fail(option, url, "has more than one ':'; write an IPv6 address in brackets, as in http://[::1]:9000");
    for (const char c : host)
      if (!is_alpha(c) && !is_digit(c) && c != '.' && c != '-' && c != '_')
        fail(option, url, fmt::format("has a host with the character '{}'", shown({&c, 1})));
  }
  std::transform(host.begin(), host.end(), host.begin(), ascii_lower);
  return host;
}

}  // namespace

SourceUrl parse_source_url(std::string_view url, std::string_view option) {
  std::string_view rest = url;
  const auto scheme = take_scheme(rest);
  if (scheme == "s3") return parse_s3(rest, url, option);
  if (scheme == "file") return parse_file(rest, url, option);
  if (url.empty()) fail(option, url, fmt::format("is empty; expected {}", kSourceForms));
  if (scheme == "http" || scheme == "https")
    fail(option, url, "is a web address; expected s3://BUCKET, with the server's address as endpoint_url");
  if (!scheme && url.front() == '/')
    fail(option, url, fmt::format("has no scheme; for a local directory write file://{}", shown(url)));
  fail(option, url, fmt::format("is no source; expected {}", kSourceForms));
}

bool Endpoint::is_ip_address() const { return host.front() == '[' || is_ipv4(host); }

std::string Endpoint::authority() const {
  return port == (tls ? 443 : 80) ? host : fmt::format("{}:{}", host, port);
}

std::string Endpoint::origin() const { return fmt::format("{}://{}", tls ? "https" : "http", authority()); }

Endpoint parse_endpoint_url(std::string_view url, std::string_view option) {
  std::string_view rest = url;
  const auto scheme = take_scheme(rest);
  if (scheme != "http" && scheme != "https") {
    if (!scheme && !url.empty()) fail(option, url, fmt::format("has no scheme; expected {}", kEndpointForms));
    fail(option, url, fmt::format("is no endpoint; expected {}", kEndpointForms));
  }
  for (const char c : rest)
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f || c == '\\')
      fail(option, url, "contains a space, a backslash or a character that is not ASCII");
  if (rest.find_first_of("?#") != std::string_view::npos)
    fail(option, url, fmt::format("has a query or fragment; expected {}", kEndpointForms));

  Endpoint endpoint;
  endpoint.tls = scheme == "https";
  endpoint.port = endpoint.tls ? 443 : 80;
  const std::size_t slash = rest.find('/');
  if (slash != std::string_view::npos) endpoint.path = rest.substr(slash);
  while (!endpoint.path.empty() && endpoint.path.back() == '/') endpoint.path.pop_back();
  if (!percent_decoded(endpoint.path)) fail(option, url, "has a '%' that begins no %XX escape");
  rest = rest.substr(0, slash);
  if (rest.find('@') != std::string_view::npos)
    fail(option, url, "contains an '@'; credentials do not belong in an endpoint (see AWS_ACCESS_KEY_ID)");

  endpoint.host = take_host(rest, url, option);
  if (!rest.empty()) {
    unsigned port = 0;
    const char* end = rest.data() + rest.size();
    const auto [stopped, error] = std::from_chars(rest.data() + 1, end, port);
    if (rest.front() != ':' || error != std::errc() || stopped != end || port == 0 || port > 65535)
      fail(option, url, "has no valid port; expected a number from 1 to 65535 after ':'");
    endpoint.port = static_cast<std::uint16_t>(port);
  }
  return endpoint;
}

}  // namespace alnair
