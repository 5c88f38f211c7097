#include "manager/command/admin.h"

#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "alnair/core/error.h"
#include "core/percent.h"
#include "core/wall_clock.h"
#include "dataset/job/manager_api.h"
#include "manager/command/arguments.h"
#include "manager/command/command.h"
#include "manager/command/table.h"
#include "manager/config/config.h"
#include "manager/daemon/client_conf.h"
#include "manager/daemon/job_file.h"
#include "manager/identity/crypto.h"
#include "manager/server/manager.h"
#include "manager/server/state_files.h"
#include "manager/service/clients.h"

namespace alnair::manager {
namespace {

using nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Arguments parse(const std::vector<std::string>& rest, std::set<std::string> options = {},
                std::set<std::string> flags = {}) {
  options.insert({"config", "manager", "ca", "cert", "key"});
  flags.insert("json");
  return parse_arguments(rest, options, flags);
}

void expect_words(const Arguments& arguments, std::size_t count, const char* usage) {
  if (arguments.words.size() != count) throw UsageError(fmt::format("expected {}", usage));
}

Config config_of(const Arguments& arguments) {
  return load_config(arguments.value("config", variable("ALNAIR_MANAGER_CONFIG")), manager_environment());
}

// The manager that --manager or ALNAIR_MANAGER names, else this host's, with the administrator's token.
class Admin {
 public:
  explicit Admin(const Arguments& arguments)
      : api_(url(arguments), file(arguments, "ca", "ALNAIR_MANAGER_TLS_CA"),
             file(arguments, "cert", "ALNAIR_MANAGER_TLS_CLIENT_CERT"),
             file(arguments, "key", "ALNAIR_MANAGER_TLS_CLIENT_KEY")),
        token_(token(arguments)) {}

  json call(HttpMethod method, const std::string& path, const json& body = nullptr) {
    try {
      return api_.call(method, path, token_, body);
    } catch (const ManagerFailure& failure) {
      constexpr const char* kWrongToken = "; is that manager's the token of ALNAIR_MANAGER_ADMIN_TOKEN, or else in the state directory?";
      throw Error(failure.what() + std::string(failure.status() == 401 ? kWrongToken : ""));
    }
  }

  static std::string token(const Arguments& arguments) {
    if (auto text = variable("ALNAIR_MANAGER_ADMIN_TOKEN"); !text.empty()) {
      if (std::all_of(text.begin(), text.end(), [](unsigned char c) { return c > 0x20 && c < 0x7f; })) return text;
      throw ConfigError("ALNAIR_MANAGER_ADMIN_TOKEN: expected a token without spaces and line ends");
    }
    const std::string path = config_of(arguments).state_dir + "/admin.token";
    return secret_file(path, "administrator's token", [&]() -> std::string {
      throw ConfigError(
          fmt::format("{}: no such file; the manager makes it when it first starts. Elsewhere set "
                      "ALNAIR_MANAGER_ADMIN_TOKEN",
                      path));
    });
  }

 private:
  static std::string url(const Arguments& arguments) {
    if (auto text = arguments.value("manager", variable("ALNAIR_MANAGER")); !text.empty()) return text;
    const Config config = config_of(arguments);
    const bool here = config.bind == "127.0.0.1" || config.bind == "0.0.0.0" || config.bind == "::";
    // A certificate is for names more often than for addresses.
    const std::string own = config.tls_certificate.empty() ? "127.0.0.1" : "localhost";
    const std::string host = here ? own : config.bind.find(':') == std::string::npos ? config.bind : "[" + config.bind + "]";
    return fmt::format("{}://{}:{}", config.tls_certificate.empty() ? "http" : "https", host, config.port);
  }

  static std::string file(const Arguments& arguments, const char* option, const char* name) {
    return arguments.value(option, variable(name));
  }

  ManagerApi api_;
  std::string token_;
};

std::string text_of_document(const json& document) {
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

// Of a command that changes something: silent, or with --json the manager's answer ({}: it had nothing to say).
int done(const Arguments& arguments, const json& answer) {
  if (arguments.has("json")) std::fputs(text_of_document(answer.is_null() ? json::object() : answer).c_str(), stdout);
  return 0;
}

int show(const Arguments& arguments, const json& answer, const Rows& rows) {
  const std::string text = arguments.has("json") ? text_of_document(answer) : table(rows);
  std::fputs(text.c_str(), stdout);
  return 0;
}

std::string text_of(const json& value) {
  return value.is_null() ? "-" : value.is_string() ? value.get<std::string>() : value.dump();
}

int status_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest);
  expect_words(arguments, 0, "status without words");
  const json answer = Admin(arguments).call(HttpMethod::kGet, "/v1/status");
  Rows rows;
  for (const auto& [name, value] : answer.items())
    if (name != "jobs" && name != "tiers") rows.push_back({name, name == "dataset_bytes" ? readable_bytes(value) : text_of(value)});
  const json& tiers = answer.at("tiers");
  for (const char* name : {"memory", "disk", "redis", "directory"})
    if (const json& tier = tiers.at(name); !tier.is_null())
      rows.push_back({name, readable_bytes(tier.at("used_bytes")) + " of " + readable_bytes(tier.at("limit_bytes"))});
  rows.push_back({"unflushed", readable_bytes(tiers.at("unflushed_bytes")) + ", " + readable_age(tiers.at("unflushed_s"))});
  for (const auto& [state, count] : answer.at("jobs").items()) rows.push_back({"jobs " + state, count.dump()});
  return show(arguments, answer, rows);
}

int jobs_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest);
  expect_words(arguments, 0, "jobs without words");
  const json answer = Admin(arguments).call(HttpMethod::kGet, "/v1/jobs");
  Rows rows = {{"ID", "NAME", "CLIENT", "NODE", "STATE", "OBJECTS", "SIZE", "HEARTBEAT"}};
  for (const json& job : answer.at("jobs"))
    rows.push_back({job.at("id"), job.at("name"), job.at("client"), job.at("node"), job.at("state"),
                    job.at("progress").at("objects").dump(), readable_bytes(job.at("progress").at("bytes")),
                    readable_age(job.at("heartbeat_age_s")) + (job.at("expired").get<bool>() ? " (expired)" : "")});
  return show(arguments, answer, rows);
}

std::string cached_share(const json& dataset) {
  const json& cached = dataset.at("cached");
  return cached.is_null() ? "-" : fmt::format("{:.0f} %", cached.at("percent").get<double>());
}

std::string cached_where(const json& dataset) {
  const json& cached = dataset.at("cached");
  if (cached.is_null()) return "-";
  std::string where;
  for (const auto& [field, name] : {std::pair{"redis_bytes", "Redis"}, {"directory_bytes", "directory"}})
    if (cached.at(field) != 0) where += fmt::format("{}{} {}", where.empty() ? "" : ", ", name, readable_bytes(cached.at(field)));
  return where.empty() ? "-" : where;
}

std::string work_of(const json& copy) {
  if (copy.is_null() || (!copy.at("running").get<bool>() && copy.at("failure").is_null())) return "-";
  return fmt::format("{} {}/{}{}", copy.at("work").get<std::string>(), copy.at("objects").dump(), copy.at("total_objects").dump(),
                     copy.at("failure").is_null() ? "" : ": " + copy.at("failure").get<std::string>());
}

int datasets_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest);
  expect_words(arguments, 0, "datasets without words");
  const json answer = Admin(arguments).call(HttpMethod::kGet, "/v1/datasets");
  Rows rows = {{"ID", "NAME", "BUCKET", "CLIENT", "OBJECTS", "SIZE", "CACHED", "WHERE", "CAPACITY", "WORK", "JOBS", "LAST USE", "PINNED"}};
  const auto now = static_cast<double>(milliseconds_now());
  for (const json& dataset : answer.at("datasets")) {
    const double pinned = (dataset.at("pinned_until_ms").get<double>() - now) / 1000;
    rows.push_back({dataset.at("id"), dataset.at("datasource").at("name"), dataset.at("datasource").at("bucket"),
                    dataset.at("client"), dataset.at("objects").dump(), readable_bytes(dataset.at("bytes")),
                    cached_share(dataset), cached_where(dataset),
                    dataset.at("capacity_bytes").is_null() ? "-" : readable_bytes(dataset.at("capacity_bytes")),
                    work_of(dataset.at("copy")), std::to_string(dataset.at("jobs").size()),
                    readable_age((now - dataset.at("last_use_ms").get<double>()) / 1000) + " ago",
                    pinned > 0 ? readable_age(pinned) : "-"});
  }
  return show(arguments, answer, rows);
}

int clients_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest);
  expect_words(arguments, 0, "clients without words");
  const json answer = Admin(arguments).call(HttpMethod::kGet, "/v1/clients");
  const auto limit = [](const json& number, const auto& text) { return number == 0 ? "-" : text(number); };
  Rows rows = {{"NAME", "DOMAIN", "ENABLED", "S3", "SESSIONS", "CACHED BYTES", "S3 REQUESTS/S"}};
  for (const json& client : answer.at("clients"))
    rows.push_back({client.at("name"), client.at("domain"), client.at("enabled").dump(), client.at("s3").dump(),
                    client.at("sessions").dump(),
                    limit(client.at("quota").at("cached_bytes"), [](const json& bytes) { return readable_bytes(bytes); }),
                    limit(client.at("quota").at("s3_requests_per_second"), text_of)});
  return show(arguments, answer, rows);
}

std::string text_or_dash(const std::string& text) { return text.empty() ? "-" : text; }

// Until the registration has ended, or `patience` seconds have. Says on stderr how far it is, each second that it goes on.
JobStatus wait_with_progress(const JobClient& job, const std::string& name, double patience) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(patience);
  std::string said;
  for (;;) {
    const JobStatus status = job.wait(std::chrono::seconds(1));
    if (status.state == "ready" || status.state == "failed" || std::chrono::steady_clock::now() >= deadline) return status;
    std::string line = fmt::format("{}: {}, {} objects, {}{}{}", name, status.state, status.objects, readable_bytes(status.bytes),
                                   status.detail.empty() ? "" : "; ", status.detail);
    if (line != said) std::fprintf(stderr, "%s\n", line.c_str());
    said = std::move(line);
  }
}

int register_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest, {"secret"});
  expect_words(arguments, 1, "register JOB.json [--secret client.conf]");
  const std::string secret_directory = variable("ALNAIR_SECRET_DIR");
  const ManagerOptions manager = read_client_conf(
      arguments.value("secret", (secret_directory.empty() ? "/secret" : secret_directory) + "/client.conf"));
  std::string name = arguments.words[0].substr(arguments.words[0].rfind('/') + 1);
  if (name.ends_with(".json")) name.resize(name.size() - 5);
  const double patience = seconds_to_wait();
  const auto job = JobClient::start(manager, read_job_file(arguments.words[0], name));
  const JobStatus status = wait_with_progress(*job, name, patience);
  const json answer = {{"state", status.state}, {"id", status.id},       {"version", status.version},
                       {"objects", status.objects}, {"bytes", status.bytes}, {"detail", status.detail}};
  show(arguments, answer, {{"state", status.state}, {"version", text_or_dash(status.version)}, {"objects", std::to_string(status.objects)},
                           {"size", readable_bytes(status.bytes)}, {"detail", text_or_dash(status.detail)}});
  job->close(std::chrono::seconds(5));  // the dataset stays known; the registration was for that
  return status.state == "ready" ? 0 : 1;
}

int deregister_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest, {}, {"delete-dataset"});
  expect_words(arguments, 1, "deregister JOB-ID [--delete-dataset]");
  return done(arguments, Admin(arguments).call(HttpMethod::kDelete,
                                               fmt::format("/v1/jobs/{}{}", percent_encoded(arguments.words[0]),
                                                           arguments.has("delete-dataset") ? "?delete_dataset=true" : "")));
}

int pin_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest);
  expect_words(arguments, 2, "pin DATASET-ID MINUTES (0: no longer)");
  const json minutes = json::parse(arguments.words[1], nullptr, false);
  if (!minutes.is_number_unsigned()) throw UsageError("MINUTES: expected a whole number");
  return done(arguments,
              Admin(arguments).call(HttpMethod::kPost, "/v1/datasets/" + percent_encoded(arguments.words[0]) + "/pin", {{"minutes", minutes}}));
}

int forget_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest);
  expect_words(arguments, 1, "forget DATASET-ID");
  return done(arguments, Admin(arguments).call(HttpMethod::kDelete, "/v1/datasets/" + percent_encoded(arguments.words[0])));
}

int warm_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest, {"prefix", "rate"});
  if (arguments.words.empty())
    throw UsageError("expected warm DATASET-ID [KEY...] [--prefix PREFIX] [--rate BYTES-PER-SECOND]");
  json body = json::object();
  if (arguments.words.size() > 1)
    body["keys"] = std::vector<std::string>(arguments.words.begin() + 1, arguments.words.end());
  if (arguments.has("prefix")) body["prefix"] = arguments.value("prefix");
  if (arguments.has("rate")) {
    body["bytes_per_s"] = json::parse(arguments.value("rate"), nullptr, false);
    if (!body["bytes_per_s"].is_number_unsigned()) throw UsageError("--rate: expected a whole number of bytes a second");
  }
  return done(arguments, Admin(arguments).call(HttpMethod::kPost, "/v1/datasets/" + percent_encoded(arguments.words[0]) + "/warm", body));
}

// check, evict, cancel: a dataset, and nothing more to say.
std::function<int(const std::vector<std::string>&)> work_command(const std::string& verb) {
  return [verb](const std::vector<std::string>& rest) {
    const Arguments arguments = parse(rest);
    expect_words(arguments, 1, (verb + " DATASET-ID").c_str());
    return done(arguments,
                Admin(arguments).call(HttpMethod::kPost, "/v1/datasets/" + percent_encoded(arguments.words[0]) + "/" + verb, json::object()));
  };
}

int gc_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest);
  expect_words(arguments, 0, "gc without words");
  const json answer = Admin(arguments).call(HttpMethod::kPost, "/v1/gc", json::object());
  Rows rows;
  for (const json& id : answer.at("datasets")) rows.push_back({id});
  return show(arguments, answer, rows);
}

// From a terminal without echo, else the first line of stdin: never an argument, which others could see.
std::string read_password() {
  termios before{};
  const bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
  if (terminal) {
    std::fputs("Password: ", stderr);
    termios silent = before;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
  }
  std::string password;
  std::getline(std::cin, password);
  if (terminal) {
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    std::fputs("\n", stderr);
  }
  return password;
}

int user_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest, {"domain", "cached-bytes", "s3-requests"});
  expect_words(arguments, 2, "user add|password|enable|disable|quota|remove NAME (the password is read from stdin)");
  const std::string &verb = arguments.words[0], &name = arguments.words[1];
  Admin admin(arguments);
  json answer;
  if (verb == "add") {
    json body = {{"name", name}, {"password", read_password()}};
    if (arguments.has("domain")) body["domain"] = arguments.value("domain");
    answer = admin.call(HttpMethod::kPost, "/v1/clients", body);
  } else if (verb == "password") {
    answer = admin.call(HttpMethod::kPost, "/v1/clients/" + percent_encoded(name), {{"password", read_password()}});
  } else if (verb == "enable" || verb == "disable") {
    answer = admin.call(HttpMethod::kPost, "/v1/clients/" + percent_encoded(name), {{"enabled", verb == "enable"}});
  } else if (verb == "quota") {
    if (!arguments.has("cached-bytes") && !arguments.has("s3-requests"))
      throw UsageError("user quota: expected --cached-bytes N, --s3-requests N, or both");
    json quota = json::object();
    const json present = admin.call(HttpMethod::kGet, "/v1/clients");
    for (const json& client : present.at("clients"))
      if (client.at("name") == name) quota = client.at("quota");  // what is left out stays
    for (const auto& [option, field] : {std::pair{"cached-bytes", "cached_bytes"}, {"s3-requests", "s3_requests_per_second"}}) {
      if (!arguments.has(option)) continue;
      quota[field] = json::parse(arguments.value(option), nullptr, false);
      if (!quota[field].is_number_unsigned()) throw UsageError(fmt::format("--{}: expected a whole number", option));
    }
    answer = admin.call(HttpMethod::kPost, "/v1/clients/" + percent_encoded(name), {{"quota", quota}});
  } else if (verb == "remove") {
    answer = admin.call(HttpMethod::kDelete, "/v1/clients/" + percent_encoded(name));
  } else {
    throw UsageError(fmt::format("user {}: expected add, password, enable, disable, quota or remove", verb));
  }
  return done(arguments, answer);
}

int token_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest);
  expect_words(arguments, 0, "token without words");
  const std::string token = Admin::token(arguments);
  return show(arguments, {{"token", token}}, {{token}});
}

int reseal_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse(rest, {"new-key-file"});
  if (!arguments.words.empty() || !arguments.has("new-key-file"))
    throw UsageError("expected reseal --new-key-file FILE");
  const Config config = config_of(arguments);
  const auto key = [](const std::string& text, const std::string& where) {
    const auto sealer = Sealer::from_hex(text);
    if (!sealer) throw ConfigError(fmt::format("{}: expected 64 lower-case hex digits", where));
    return *sealer;
  };
  const std::string file = arguments.value("new-key-file");
  const Sealer fresh = key(secret_file(file, "seal key", Sealer::new_key), file);
  const Sealer present =
      config.seal_key.empty()
          ? key(secret_file(
                    config.seal_key_file, "seal key",
                    [&]() -> std::string { throw ConfigError(fmt::format("{}: no such file", config.seal_key_file)); }),
                config.seal_key_file)
          : key(config.seal_key, "ALNAIR_MANAGER_SEAL_KEY");
  const auto records = open_records(config, config.state_dir, {});  // its lock says that no manager runs
  Clients clients(*records, present, {}, std::chrono::steady_clock::now);
  const std::size_t count = clients.reseal(fresh);
  return show(arguments, {{"clients", count}, {"seal_key_file", file}},
              {{fmt::format("The S3 credentials of {} clients are sealed under the new key. Set seal_key_file = {} before the "
                            "manager starts.",
                            count, file)}});
}

}  // namespace

std::map<std::string, Command> admin_commands() {
  return {{"status", status_command},   {"jobs", jobs_command},         {"datasets", datasets_command},
          {"clients", clients_command}, {"register", register_command}, {"deregister", deregister_command},
          {"pin", pin_command},         {"forget", forget_command},     {"warm", warm_command},
          {"check", work_command("check")}, {"evict", work_command("evict")}, {"cancel", work_command("cancel")},
          {"gc", gc_command},
          {"user", user_command},       {"token", token_command},       {"reseal", reseal_command}};
}

}  // namespace alnair::manager
