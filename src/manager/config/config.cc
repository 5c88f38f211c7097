#include "manager/config/config.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>

#include "alnair/core/error.h"
#include "core/ini.h"
#include "core/nearest_names.h"
#include "redis/url.h"

extern char** environ;

namespace alnair::manager {
namespace {

constexpr std::string_view kPrefix = "ALNAIR_MANAGER_";
// Read by clients of a manager, and no keys of its configuration.
constexpr std::string_view kOfClients[] = {"ALNAIR_MANAGER_USERNAME", "ALNAIR_MANAGER_PASSWORD",
                                           "ALNAIR_MANAGER_TLS_CA", "ALNAIR_MANAGER_TLS_CLIENT_CERT",
                                           "ALNAIR_MANAGER_TLS_CLIENT_KEY", "ALNAIR_MANAGER_ADMIN_TOKEN",
                                           "ALNAIR_MANAGER_CONFIG"};

struct Key {
  const char* section;
  const char* name;
  std::function<void(Config&, const std::string& value, const std::string& where)> read;
  std::function<std::string(const Config&)> show;

  std::string variable() const {
    std::string text =
        std::string(kPrefix) + (std::string_view(section) == "manager" ? "" : std::string(section) + "_") + name;
    std::transform(text.begin(), text.end(), text.begin(), [](char c) { return c >= 'a' && c <= 'z' ? c - 32 : c; });
    return text;
  }
};

[[noreturn]] void expected(const std::string& where, const std::string& value, std::string_view what) {
  throw ConfigError(fmt::format("{}: expected {}, not \"{}\"", where, what, value));
}

template <typename Number>
Key number(const char* section, const char* name, Number Config::*member, std::uint64_t low, std::uint64_t high,
           const char* unit) {
  return {section, name,
          [=](Config& config, const std::string& value, const std::string& where) {
            std::uint64_t parsed = 0;
            const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
            if (error != std::errc() || end != value.data() + value.size() || parsed < low || parsed > high)
              expected(where, value, fmt::format("a number of {} from {} to {}", unit, low, high));
            config.*member = static_cast<Number>(parsed);
          },
          [=](const Config& config) { return std::to_string(config.*member); }};
}

Key address(const char* section, const char* name, std::string Config::*member) {
  return {section, name,
          [=](Config& config, const std::string& value, const std::string& where) {
            unsigned char parsed[sizeof(in6_addr)];
            if (inet_pton(AF_INET, value.c_str(), parsed) != 1 && inet_pton(AF_INET6, value.c_str(), parsed) != 1)
              expected(where, value, "an address in numbers, such as 127.0.0.1 or ::1");
            config.*member = value;
          },
          [=](const Config& config) { return config.*member; }};
}

// Bytes, or with a unit.
Key size(const char* section, const char* name, std::uint64_t Config::*member) {
  return {section, name,
          [=](Config& config, const std::string& value, const std::string& where) {
            std::uint64_t count = 0;
            const char* const end_of_value = value.data() + value.size();
            const auto [end, error] = std::from_chars(value.data(), end_of_value, count);
            std::string_view unit(end, end_of_value);
            unit.remove_prefix(std::min(unit.find_first_not_of(' '), unit.size()));
            constexpr std::string_view kUnits[] = {"", "KiB", "MiB", "GiB", "TiB"};
            const auto found = std::find(std::begin(kUnits), std::end(kUnits), unit);
            const auto shift = 10 * (found - std::begin(kUnits));
            if (error != std::errc() || found == std::end(kUnits) || count > (std::uint64_t{1} << 60) >> shift)
              expected(where, value, "bytes, such as 1073741824 or 1 GiB");
            config.*member = count << shift;
          },
          [=](const Config& config) { return std::to_string(config.*member); }};
}

Key boolean(const char* section, const char* name, bool Config::*member) {
  return {section, name,
          [=](Config& config, const std::string& value, const std::string& where) {
            if (value == "true" || value == "yes" || value == "on" || value == "1")
              config.*member = true;
            else if (value == "false" || value == "no" || value == "off" || value == "0")
              config.*member = false;
            else
              expected(where, value, "true or false");
          },
          [=](const Config& config) -> std::string { return config.*member ? "true" : "false"; }};
}

Key text(const char* section, const char* name, std::string Config::*member) {
  return {section, name, [=](Config& config, const std::string& value, const std::string&) { config.*member = value; },
          [=](const Config& config) { return config.*member; }};
}

Key path(const char* section, const char* name, std::string Config::*member) {
  Key key = text(section, name, member);
  key.read = [=](Config& config, const std::string& value, const std::string& where) {
    if (!value.empty() && value.front() != '/') expected(where, value, "an absolute path");
    config.*member = value;
  };
  return key;
}

Key one_of(const char* section, const char* name, std::string Config::*member, std::vector<std::string> choices) {
  Key key = text(section, name, member);
  key.read = [=](Config& config, const std::string& value, const std::string& where) {
    if (std::find(choices.begin(), choices.end(), value) == choices.end())
      expected(where, value, fmt::format("{}", fmt::join(choices, " or ")));
    config.*member = value;
  };
  return key;
}

Key secret(const char* section, const char* name, std::string Config::*member) {
  return {section, name,
          [=](Config& config, const std::string& value, const std::string& where) {
            if (value.size() != 64 || value.find_first_not_of("0123456789abcdef") != std::string::npos)
              throw ConfigError(fmt::format("{}: expected 64 lower-case hex digits", where));
            config.*member = value;
          },
          [=](const Config& config) -> std::string { return (config.*member).empty() ? "" : "(hidden)"; }};
}

Key redis_url(const char* section, const char* name, std::string Config::*member) {
  return {section, name,
          [=](Config& config, const std::string& value, const std::string& where) {
            if (!value.empty()) redis::parse_url(value, where);
            config.*member = value;
          },
          [=](const Config& config) -> std::string {
            if ((config.*member).empty()) return "";
            redis::Options options = redis::parse_url(config.*member);
            if (!options.password.empty()) options.password = "(hidden)";
            return redis::to_url(options);
          }};
}

// Shown without what stands before the host's name: it may be a password.
Key mongodb_uri(const char* section, const char* name, std::string Config::*member) {
  Key key = text(section, name, member);
  key.read = [=](Config& config, const std::string& value, const std::string& where) {
    if (!value.empty() && !value.starts_with("mongodb://") && !value.starts_with("mongodb+srv://"))
      throw ConfigError(fmt::format("{}: expected mongodb://HOST[:PORT],.../DATABASE?OPTIONS", where));
    config.*member = value;
  };
  key.show = [=](const Config& config) {
    std::string shown = config.*member;
    const std::size_t start = shown.find("://"), end = shown.rfind('@');
    if (start != std::string::npos && end != std::string::npos && end > start)
      shown.replace(start + 3, end - start - 3, "(hidden)");
    return shown;
  };
  return key;
}

const std::vector<Key>& keys() {
  static const std::vector<Key> table = {
      address("manager", "bind", &Config::bind),
      number("manager", "port", &Config::port, 0, 65535, "a port"),
      boolean("manager", "insecure_bind", &Config::insecure_bind),
      path("manager", "state_dir", &Config::state_dir),
      path("manager", "seal_key_file", &Config::seal_key_file),
      secret("manager", "seal_key", &Config::seal_key),
      boolean("manager", "create_clients", &Config::create_clients),
      number("manager", "token_life", &Config::token_life, 1, 86'400, "seconds"),
      number("manager", "session_life", &Config::session_life, 1, 604'800, "seconds"),
      number("manager", "grace", &Config::grace, 0, 604'800, "seconds"),
      path("manager", "backup_dir", &Config::backup_dir),
      one_of("manager", "backup_mode", &Config::backup_mode, {"0700", "2770"}),
      boolean("manager", "enable_proxy", &Config::enable_proxy),
      number("manager", "flush_frequency", &Config::flush_frequency, 0, 1'440, "minutes"),
      size("manager", "flush_amount", &Config::flush_amount),
      one_of("manager", "flush_policy", &Config::flush_policy, {"recency", "frequency", "next_use"}),
      number("manager", "shutdown", &Config::shutdown, 1, 600, "seconds"),
      one_of("manager", "log_format", &Config::log_format, {"text", "json"}),
      redis_url("redis", "url", &Config::redis_url),
      redis_url("redis", "shared_url", &Config::redis_shared_url),
      text("redis_proxy", "host", &Config::redis_proxy_host),
      number("redis_proxy", "port", &Config::redis_proxy_port, 1, 65535, "a port"),
      boolean("manager", "standby", &Config::standby),
      path("tls", "certificate", &Config::tls_certificate),
      path("tls", "key", &Config::tls_key),
      path("tls", "client_ca", &Config::tls_client_ca),
      mongodb_uri("mongodb", "uri", &Config::mongodb_uri),
      number("mongodb", "lease", &Config::mongodb_lease, 1, 3'600, "seconds"),
      number("limits", "max_body", &Config::max_body, 1'024, 64 << 20, "bytes"),
      number("limits", "max_header", &Config::max_header, 4'096, 1 << 20, "bytes"),
      number("limits", "max_connections", &Config::max_connections, 16, 1'000'000, "connections"),
      number("limits", "request_timeout", &Config::request_timeout, 1, 600, "seconds"),
      number("limits", "idle_timeout", &Config::idle_timeout, 1, 3'600, "seconds"),
      number("limits", "max_clients", &Config::max_clients, 1, 10'000'000, "clients"),
      number("limits", "max_jobs", &Config::max_jobs, 1, 10'000'000, "jobs"),
      number("limits", "max_jobs_per_client", &Config::max_jobs_per_client, 1, 10'000'000, "jobs"),
      number("limits", "listings", &Config::listings, 1, 64, "listings"),
      number("limits", "copies", &Config::copies, 1, 64, "copies"),
  };
  return table;
}

std::string suggestion(const std::string& wanted, const std::vector<std::string>& names) {
  std::string lower = wanted;  // as the names are, unless there is no letter of lower case
  if (!names.empty() && std::any_of(names.front().begin(), names.front().end(), [](char c) { return c >= 'a' && c <= 'z'; }))
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  const auto nearest = nearest_names(lower, names, 1);
  return nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest.front());
}

void read_file(Config& config, const IniFile& file) {
  for (const IniSection& section : file.sections()) {
    std::vector<std::string> names, sections;
    for (const Key& key : keys()) {
      if (section.name == key.section) names.push_back(key.name);
      if (sections.empty() || sections.back() != key.section) sections.push_back(key.section);
    }
    if (names.empty())
      throw ConfigError(fmt::format("{}, line {}: unknown section [{}]{}", file.path(), section.line, section.name,
                                    suggestion(section.name, sections)));
    for (const auto& [name, entry] : section.entries) {
      const std::string where = fmt::format("{}, {}", file.position(entry), name);
      const auto key = std::find_if(keys().begin(), keys().end(), [&, &entry_name = name](const Key& candidate) {
        return section.name == candidate.section && entry_name == candidate.name;
      });
      if (key == keys().end())
        throw ConfigError(fmt::format("{}: unknown key in [{}]{}", where, section.name, suggestion(name, names)));
      if (key->name == std::string_view("seal_key"))
        throw ConfigError(fmt::format("{}: a key in a configuration file is no secret; use seal_key_file, or set {}",
                                      where, key->variable()));
      key->read(config, entry.value, where);
    }
  }
}

void read_environment(Config& config, const std::map<std::string, std::string>& environment) {
  for (const auto& [variable, value] : environment) {
    if (!variable.starts_with(kPrefix)) continue;
    if (std::find(std::begin(kOfClients), std::end(kOfClients), variable) != std::end(kOfClients)) continue;
    std::vector<std::string> variables;
    const Key* found = nullptr;
    for (const Key& key : keys()) {
      variables.push_back(key.variable());
      if (variables.back() == variable) found = &key;
    }
    if (found == nullptr)
      throw ConfigError(fmt::format("{}: unknown variable{}", variable, suggestion(variable, variables)));
    found->read(config, value, variable);
  }
}

std::string default_state_dir() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (auto systemd = variable("STATE_DIRECTORY"); !systemd.empty()) return systemd;  // StateDirectory= of a unit
  if (auto state = variable("XDG_STATE_HOME"); !state.empty()) return state + "/alnair-manager";
  if (auto home = variable("HOME"); !home.empty()) return home + "/.local/state/alnair-manager";
  throw ConfigError("there is no home directory to keep state in; set state_dir or ALNAIR_MANAGER_STATE_DIR");
}

Config completed(const IniFile* file, const std::map<std::string, std::string>& environment) {
  Config config;
  if (file != nullptr) read_file(config, *file);
  read_environment(config, environment);
  if (config.tls_certificate.empty() != config.tls_key.empty() ||
      (config.tls_certificate.empty() && !config.tls_client_ca.empty()))
    throw ConfigError("[tls]: certificate and key belong together, and client_ca needs them");
  if (config.state_dir.empty()) config.state_dir = default_state_dir();
  if (config.seal_key_file.empty()) config.seal_key_file = config.state_dir + "/seal.key";
  if (config.enable_proxy && config.redis_proxy_host.empty())
    throw ConfigError("enable_proxy: [redis_proxy] host is missing");
  if (config.redis_url.empty() && (config.enable_proxy || !config.redis_shared_url.empty()))
    throw ConfigError("[redis] url is missing: the manager reaches the servers by it, and not through a proxy");
  return config;
}

}  // namespace

Config load_config(const std::string& path, const std::map<std::string, std::string>& environment) {
  if (path.empty()) return completed(nullptr, environment);
  const auto file = IniFile::load(path);
  if (!file) throw ConfigError(fmt::format("{}: no such file", path));
  return completed(&*file, environment);
}

Config parse_config(std::string_view text, const std::string& path,
                    const std::map<std::string, std::string>& environment) {
  const IniFile file = IniFile::parse(text, path);
  return completed(&file, environment);
}

std::map<std::string, std::string> manager_environment() {
  std::map<std::string, std::string> found;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (text.starts_with(kPrefix) && equals != std::string_view::npos)
      found.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return found;
}

std::vector<ConfigValue> config_values(const Config& config) {
  std::vector<ConfigValue> values;
  for (const Key& key : keys()) values.push_back({key.section, key.name, key.show(config)});
  return values;
}

}  // namespace alnair::manager
