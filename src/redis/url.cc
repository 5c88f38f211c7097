#include "redis/url.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "alnair/core/error.h"
#include "core/nearest_names.h"
#include "core/percent.h"

namespace alnair::redis {
namespace {

constexpr std::string_view kForms = "redis://HOST[:PORT][,HOST[:PORT]...], rediss:// for TLS, or unix:/PATH";
constexpr std::uint16_t kDefaultPort = 6379;
constexpr std::size_t kMaxName = 64;  // of namespace and domain: they are in every key

// Parses one URL. Messages quote only what cannot hold a secret: names of options and values of those that are none,
// never what stands before an '@' or an unknown option's value.
class UrlParser {
 public:
  UrlParser(std::string_view url, std::string_view option) : rest_(url), option_(option) {}

  Options parse() {
    check_characters();
    const std::size_t query = rest_.find('?');
    const std::string_view parameters = query == std::string_view::npos ? "" : rest_.substr(query + 1);
    rest_ = rest_.substr(0, query);
    take_scheme();
    take_user();
    if (unix_)
      take_path();
    else
      take_seeds();
    take_parameters(parameters);
    check_together();
    return std::move(options_);
  }

 private:
  [[noreturn]] void fail(std::string_view what) const { throw ConfigError(fmt::format("{}: {}.", option_, what)); }

  void check_characters() const {
    for (const char c : rest_)
      if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f)
        fail("the URL contains a space or a control character; write it as %XX");
    if (rest_.find('#') != std::string_view::npos) fail("the URL contains a '#'; write it as %23");
  }

  void take_scheme() {
    const std::size_t colon = rest_.find(':');
    std::string scheme(rest_.substr(0, colon == std::string_view::npos ? 0 : colon));
    std::transform(scheme.begin(), scheme.end(), scheme.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    unix_ = scheme == "unix" || scheme == "redis+unix";
    options_.tls = scheme == "rediss";
    if (rest_.empty()) fail(fmt::format("the URL is empty; expected {}", kForms));
    if (!unix_ && scheme != "redis" && scheme != "rediss")
      fail(fmt::format("this is no Redis URL; expected {}", kForms));
    rest_.remove_prefix(colon + 1);
    if (rest_.substr(0, 2) == "//")
      rest_.remove_prefix(2);
    else if (!unix_)
      fail(fmt::format("'//' is missing after '{}:'; expected {}", scheme, kForms));
  }

  void take_user() {
    const std::size_t at = rest_.rfind('@');
    if (at == std::string_view::npos) return;
    const std::string_view both = rest_.substr(0, at);
    rest_.remove_prefix(at + 1);
    const std::size_t colon = both.find(':');
    options_.user = decoded(both.substr(0, colon), "the user's name");
    if (colon != std::string_view::npos) options_.password = decoded(both.substr(colon + 1), "the password");
    if (options_.user.empty() && options_.password.empty())
      fail("there is neither a user nor a password before the '@'");
    if (options_.password.empty()) without_password_ = true;
  }

  void take_path() {
    const std::string path = decoded(rest_, "the socket's path");
    if (path.empty() || path.front() != '/')
      fail("the Unix socket's path must begin with '/', as in unix:/run/redis.sock");
    if (path.size() > 107) fail("the Unix socket's path is longer than the 107 bytes that Linux allows");
    options_.seeds.push_back({.path = path});
  }

  void take_seeds() {
    const std::size_t slash = rest_.find('/');
    const std::string_view path = slash == std::string_view::npos ? "" : rest_.substr(slash + 1);
    if (!path.empty() && path != "0")  // the only one that a cluster has
      fail(
          "after the hosts comes a path; databases are not chosen by number (a cluster has only one), use "
          "namespace=NAME");
    rest_ = rest_.substr(0, slash);
    while (true) {
      const std::size_t comma = rest_.find(',');
      const Address seed = address_of(rest_.substr(0, comma));
      if (std::find(options_.seeds.begin(), options_.seeds.end(), seed) == options_.seeds.end())
        options_.seeds.push_back(seed);
      if (comma == std::string_view::npos) break;
      rest_.remove_prefix(comma + 1);
    }
  }

  Address address_of(std::string_view text) const {
    Address address{.port = kDefaultPort};
    std::string_view port;
    if (!text.empty() && text.front() == '[') {
      const std::size_t end = text.find(']');
      address.host = text.substr(1, end == std::string_view::npos ? 0 : end - 1);
      in6_addr ignored;
      if (inet_pton(AF_INET6, address.host.c_str(), &ignored) != 1)
        fail("there is no valid IPv6 address between '[' and ']'");
      port = text.substr(end + 1);
    } else {
      const std::size_t colon = text.find(':');
      if (colon != std::string_view::npos && text.find(':', colon + 1) != std::string_view::npos)
        fail("a host has more than one ':'; write an IPv6 address in brackets, as in redis://[::1]:6379");
      address.host = text.substr(0, colon);
      port = colon == std::string_view::npos ? "" : text.substr(colon);
    }
    if (address.host.empty()) fail(fmt::format("a host is empty; expected {}", kForms));
    if (address.host.size() > 255) fail("a host's name is longer than 255 characters");
    for (const char c : address.host)
      if (!std::isalnum(static_cast<unsigned char>(c)) && std::string_view(".-_:").find(c) == std::string_view::npos)
        fail("a host has a character that no host's name has; if it belongs to the password, write it as %XX");
    if (!port.empty()) {
      unsigned number = 0;
      const char* end = port.data() + port.size();
      const auto [stopped, error] = std::from_chars(port.data() + 1, end, number);
      if (port.front() != ':' || error != std::errc() || stopped != end || number == 0 || number > 65535)
        fail(fmt::format("the host '{}' has no valid port; expected a number from 1 to 65535 after ':'", address.host));
      address.port = static_cast<std::uint16_t>(number);
    }
    return address;
  }

  void take_parameters(std::string_view parameters) {
    const std::map<std::string, std::function<void(std::string_view, std::string)>> known{
        {"mode", [&](auto name, auto value) { options_.mode = mode_of(name, value); }},
        {"namespace", [&](auto name, auto value) { options_.key_namespace = name_of(name, value); }},
        {"domain", [&](auto name, auto value) { options_.domain = name_of(name, value); }},
        {"flusher", [&](auto name, const auto& value) { options_.flusher = boolean(name, value); }},
        {"password_file", [&](auto name, auto value) { options_.password_file = file_of(name, value); }},
        {"tls_ca", [&](auto name, auto value) { options_.tls_ca = tls_file(name, value); }},
        {"tls_cert", [&](auto name, auto value) { options_.tls_cert = tls_file(name, value); }},
        {"tls_key", [&](auto name, auto value) { options_.tls_key = tls_file(name, value); }},
        {"tls_name", [&](auto name, auto value) { options_.tls_name = tls_file(name, value); }},
        {"tls_verify", [&](auto name, auto value) { options_.tls_verify = boolean(name, tls_file(name, value)); }},
        {"timeout_ms", [&](auto name, auto value) { options_.timeout = milliseconds_of(name, value, 10, 600'000); }},
        {"deadline_ms",
         [&](auto name, auto value) { options_.deadline = milliseconds_of(name, value, 10, 3'600'000); }},
        {"window_bytes", [&](auto name, auto value) { options_.window_bytes = number(name, value, 4096, 1u << 30); }},
    };
    const bool quotable = parameters.find('@') == std::string_view::npos;  // else it may be a password with a '?' in it
    std::set<std::string> seen;
    while (!parameters.empty()) {
      const std::size_t end = parameters.find('&');
      const std::string_view parameter = parameters.substr(0, end);
      parameters = end == std::string_view::npos ? "" : parameters.substr(end + 1);
      if (parameter.empty()) continue;
      const std::size_t equals = parameter.find('=');
      const std::string name(parameter.substr(0, equals));
      const auto found = known.find(name);
      if (found == known.end()) {
        std::vector<std::string> names;
        for (const auto& entry : known) names.push_back(entry.first);
        const std::string near = nearest_names(name, names, 1).front();
        fail(fmt::format("the URL has an unknown option{}; did you mean {}? Known are {}",
                         quotable && name.size() <= kMaxName ? fmt::format(" '{}'", name) : "", near,
                         fmt::join(names, ", ")));
      }
      if (equals == std::string_view::npos)
        fail(fmt::format("the option {} has no value; expected {}=VALUE", name, name));
      if (!seen.insert(name).second) fail(fmt::format("the option {} is there twice", name));
      found->second(name, decoded(parameter.substr(equals + 1), fmt::format("the option {}", name)));
    }
  }

  void check_together() const {
    if (options_.tls_cert.empty() != options_.tls_key.empty())
      fail("tls_cert and tls_key belong together, and one is missing");
    if (!options_.tls_verify && !options_.tls_ca.empty()) fail("tls_ca has no effect with tls_verify=false");
    if (!options_.password_file.empty() && !options_.password.empty())
      fail("there is a password and a password_file; expected one of them");
    if (without_password_ && options_.password_file.empty()) fail("the user has no password");
    if (options_.mode == Mode::kStandalone && options_.seeds.size() > 1)
      fail("mode=standalone takes one host, and there are several");
    if (options_.mode == Mode::kCluster && unix_)
      fail("a cluster cannot be reached through a Unix socket: its nodes announce hosts and ports");
  }

  std::string decoded(std::string_view text, std::string_view what) const {
    auto value = percent_decoded(text);
    if (!value) fail(fmt::format("{} has a '%' that begins no %XX escape; write a literal '%' as %25", what));
    if (value->find('\0') != std::string::npos) fail(fmt::format("{} contains a zero byte", what));
    return *std::move(value);
  }

  Mode mode_of(std::string_view name, const std::string& value) const {
    for (const Mode mode : {Mode::kAuto, Mode::kCluster, Mode::kStandalone, Mode::kProxy})
      if (value == to_string(mode)) return mode;
    fail(fmt::format("the option {} is none of auto, cluster, standalone and proxy", name));
  }

  std::string name_of(std::string_view name, const std::string& value) const {
    const bool good = std::all_of(value.begin(), value.end(), [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
    });
    if (value.empty() || value.size() > kMaxName || !good || value == "." || value == "..")  // it names a folder, too
      fail(fmt::format("the option {} must be 1 to {} letters, digits, '-', '_' or '.', and more than dots", name, kMaxName));
    return value;
  }

  std::string file_of(std::string_view name, const std::string& value) const {
    if (value.empty()) fail(fmt::format("the option {} is empty", name));
    return value;
  }

  std::string tls_file(std::string_view name, const std::string& value) const {
    if (!options_.tls) fail(fmt::format("the option {} is for TLS; write rediss:// to use it", name));
    return file_of(name, value);
  }

  bool boolean(std::string_view name, const std::string& value) const {
    if (value != "true" && value != "false") fail(fmt::format("the option {} is neither true nor false", name));
    return value == "true";
  }

  std::uint64_t number(std::string_view name, const std::string& value, std::uint64_t low, std::uint64_t high) const {
    std::uint64_t number = 0;
    const char* end = value.data() + value.size();
    const auto [stopped, error] = std::from_chars(value.data(), end, number);
    if (error != std::errc() || stopped != end || number < low || number > high)
      fail(fmt::format("the option {} must be a number from {} to {}", name, low, high));
    return number;
  }

  std::chrono::milliseconds milliseconds_of(std::string_view name, const std::string& value, std::uint64_t low,
                                            std::uint64_t high) const {
    return std::chrono::milliseconds(number(name, value, low, high));
  }

  std::string_view rest_;
  const std::string_view option_;
  Options options_;
  bool unix_ = false;
  bool without_password_ = false;  // a user alone
};

}  // namespace

std::string_view to_string(Mode mode) {
  switch (mode) {
    case Mode::kCluster:
      return "cluster";
    case Mode::kStandalone:
      return "standalone";
    case Mode::kProxy:
      return "proxy";
    case Mode::kAuto:
      break;
  }
  return "auto";
}

std::string Address::text() const {
  if (host.empty()) return "unix:" + path;
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

Options parse_url(std::string_view url, std::string_view option) { return UrlParser(url, option).parse(); }

std::string to_url(const Options& options) {
  const bool unix = options.seeds.front().host.empty();
  std::string url = unix ? "unix://" : options.tls ? "rediss://" : "redis://";
  if (!options.user.empty() || !options.password.empty()) {
    url += percent_encoded(options.user);
    if (!options.password.empty()) url += ":" + percent_encoded(options.password);
    url += '@';
  }
  for (const Address& seed : options.seeds) {
    if (&seed != &options.seeds.front()) url += ',';
    url += unix ? "/" + percent_encoded(seed.path.substr(1)) : seed.text();
  }
  const Options defaults;
  char separator = '?';
  const auto add = [&](std::string_view name, const std::string& value, bool differs) {
    if (differs) url += fmt::format("{}{}={}", std::exchange(separator, '&'), name, percent_encoded(value));
  };
  const auto add_text = [&](std::string_view name, const std::string& value, const std::string& otherwise) {
    add(name, value, value != otherwise);
  };
  add_text("mode", std::string(to_string(options.mode)), std::string(to_string(defaults.mode)));
  add_text("namespace", options.key_namespace, defaults.key_namespace);
  add_text("domain", options.domain, defaults.domain);
  add("flusher", "false", !options.flusher);
  add_text("password_file", options.password_file, "");
  add_text("tls_ca", options.tls_ca, "");
  add_text("tls_cert", options.tls_cert, "");
  add_text("tls_key", options.tls_key, "");
  add_text("tls_name", options.tls_name, "");
  add("tls_verify", "false", !options.tls_verify);
  add("timeout_ms", std::to_string(options.timeout.count()), options.timeout != defaults.timeout);
  add("deadline_ms", std::to_string(options.deadline.count()), options.deadline != defaults.deadline);
  add("window_bytes", std::to_string(options.window_bytes), options.window_bytes != defaults.window_bytes);
  return url;
}

}  // namespace alnair::redis
