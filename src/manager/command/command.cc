#include "manager/command/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/nearest_names.h"
#include "manager/command/admin.h"
#include "manager/command/arguments.h"
#include "manager/daemon/daemon.h"
#include "manager/server/serve.h"

namespace alnair::manager {
namespace {

constexpr char kHelp[] = R"(alnair-manager: a cluster's jobs, datasets and cache

  alnair-manager serve [--config FILE]         run a manager
  alnair-manager client                        the daemon beside training containers: registers /jobs/*.json with the
        [--mode 0640] [--owner UID[:GID]]      manager that /secret/client.conf names, and writes /share/{job}.json
        [--node NAME]                          its node's name in tables; the host's by default
        [--wait-ready JOB]                     or waits until the daemon has loaded JOB ($ALNAIR_WAIT seconds)
  alnair-manager config check [--config FILE]  say what is wrong with a configuration; exit status 0: nothing
  alnair-manager config show [--config FILE]   the configuration in force, secrets hidden
  alnair-manager version

Of a manager that runs; tables, or with --json, which all of them take, what programs read:

  alnair-manager status | jobs | datasets | clients
  alnair-manager register JOB.json [--secret client.conf]      lists its dataset, without staying ($ALNAIR_WAIT seconds)
  alnair-manager deregister JOB-ID [--delete-dataset]
  alnair-manager pin DATASET-ID MINUTES | forget DATASET-ID
  alnair-manager warm DATASET-ID [KEY...] [--prefix PREFIX] [--rate BYTES-PER-SECOND]
  alnair-manager check DATASET-ID | evict DATASET-ID | cancel DATASET-ID
  alnair-manager gc                      evict what no job has used for its durabilityindisk; names it
  alnair-manager user add NAME [--domain DOMAIN]               the password is read from stdin
  alnair-manager user password | enable | disable | remove NAME
  alnair-manager user quota NAME [--cached-bytes N] [--s3-requests N]   0: without limit
  alnair-manager token                                         the administrator's, for curl
  alnair-manager reseal --new-key-file FILE                    S3 secrets under a new key, while no manager runs

They speak to --manager URL ($ALNAIR_MANAGER), else to this host's, with $ALNAIR_MANAGER_ADMIN_TOKEN, else with the token in
the state directory. --ca FILE ($ALNAIR_MANAGER_TLS_CA) is whom to trust over TLS, --cert FILE and --key FILE
($ALNAIR_MANAGER_TLS_CLIENT_CERT, ..._KEY) are the certificate to show. FILE of a configuration is
$ALNAIR_MANAGER_CONFIG, or none: then defaults and the environment (ALNAIR_MANAGER_...) count.
)";

// What the help says of one command: its lines, and those that go on from there.
std::string help_of(const std::string& command) {
  std::string found, line;
  bool of_it = false;
  for (std::istringstream lines(kHelp); std::getline(lines, line);) {
    if (line.starts_with("  alnair-manager ")) {
      of_it = false;
      std::string before, word;
      for (std::istringstream words(line); words >> word; before = word)
        of_it |= word == command && (before == "alnair-manager" || before == "|");
    } else if (!line.starts_with("     ")) {
      of_it = false;
    }
    if (of_it) found += line + "\n";
  }
  return found + "\nalnair-manager --help says the rest.\n";
}

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

Config config_of(const Arguments& arguments) {
  const char* variable = std::getenv("ALNAIR_MANAGER_CONFIG");
  return load_config(arguments.value("config", variable == nullptr ? "" : variable), manager_environment());
}

int serve_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse_arguments(rest, {"config"}, {});
  if (!arguments.words.empty()) throw UsageError(fmt::format("serve takes no \"{}\"", arguments.words.front()));
  return serve(config_of(arguments));
}

std::string variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

int client_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse_arguments(rest, {"mode", "owner", "node", "wait-ready"}, {});
  if (!arguments.words.empty()) throw UsageError(fmt::format("client takes no \"{}\"", arguments.words.front()));
  DaemonOptions options;
  options.jobs_directory = variable("ALNAIR_JOBS_DIR", "/jobs");
  options.secret_file = variable("ALNAIR_SECRET_DIR", "/secret") + "/client.conf";
  options.share.directory = variable("ALNAIR_SHARE_DIR", "/share");
  options.node = arguments.value("node");
  unsigned mode = 0, owner = 0, group = 0;
  char end = 0;
  if (arguments.has("mode")) {
    if (std::sscanf(arguments.value("mode").c_str(), "%o%c", &mode, &end) != 1 || mode > 0777)
      throw UsageError("--mode: expected an octal mode, such as 0640");
    options.share.mode = mode;
  }
  if (arguments.has("owner")) {
    const int found = std::sscanf(arguments.value("owner").c_str(), "%u:%u%c", &owner, &group, &end);
    if (found != 1 && found != 2) throw UsageError("--owner: expected UID or UID:GID in numbers");
    options.share.owner = owner;
    if (found == 2) options.share.group = group;
  }
  if (!arguments.has("wait-ready")) return run_daemon(options);
  return wait_ready(options.share.directory, arguments.value("wait-ready"), seconds_to_wait());
}

int config_command(const std::vector<std::string>& rest) {
  const Arguments arguments = parse_arguments(rest, {"config"}, {"json"});
  if (arguments.words.size() != 1 || (arguments.words[0] != "check" && arguments.words[0] != "show"))
    throw UsageError("expected config check or config show");
  const Config config = config_of(arguments);
  if (arguments.words[0] == "check") {
    print(arguments.has("json") ? "{}\n" : "The configuration is sound.\n");
    return 0;
  }
  if (arguments.has("json")) {
    nlohmann::json sections;
    for (const ConfigValue& value : config_values(config)) sections[value.section][value.key] = value.value;
    print(sections.dump(2) + "\n");
    return 0;
  }
  std::string section;
  for (const ConfigValue& value : config_values(config)) {
    if (value.section != section) print(fmt::format("{}[{}]\n", section.empty() ? "" : "\n", value.section));
    section = value.section;
    print(fmt::format("{} = {}\n", value.key, value.value));
  }
  return 0;
}

}  // namespace

int run_command(const std::vector<std::string>& arguments) {
  std::map<std::string, Command> commands = admin_commands();
  commands["serve"] = serve_command;
  commands["client"] = client_command;
  commands["config"] = config_command;
  commands["version"] = commands["--version"] = [](const auto&) {
    print("alnair-manager " ALNAIR_VERSION "\n");
    return 0;
  };
  if (arguments.empty()) throw UsageError("expected a command");
  if (arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    print(kHelp);
    return 0;
  }
  const auto command = commands.find(arguments[0]);
  if (command == commands.end()) {
    std::vector<std::string> names;
    for (const auto& [name, run] : commands) names.push_back(name);
    throw UsageError(fmt::format("unknown command \"{}\"; did you mean {}?", arguments[0],
                                 nearest_names(arguments[0], names, 1).front()));
  }
  if (arguments.size() > 1 && (arguments[1] == "-h" || std::find(arguments.begin(), arguments.end(), "--help") != arguments.end())) {
    print(help_of(arguments[0]));
    return 0;
  }
  return command->second({arguments.begin() + 1, arguments.end()});
}

}  // namespace alnair::manager
