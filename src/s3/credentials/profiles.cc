#include "s3/credentials/profiles.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "alnair/core/error.h"

namespace alnair {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// "profile dev" or "profile 'my dev'" -> "dev", "my dev"; nullopt: another kind of section.
std::optional<std::string> name_after(std::string_view section, std::string_view kind) {
  if (section.substr(0, kind.size()) != kind) return std::nullopt;
  section.remove_prefix(kind.size());
  if (section.empty() || (section.front() != ' ' && section.front() != '\t')) return std::nullopt;
  section = trimmed(section);
  if (section.size() >= 2 && (section.front() == '"' || section.front() == '\'') &&
      section.back() == section.front())
    section = section.substr(1, section.size() - 2);
  if (section.empty()) return std::nullopt;
  return std::string(section);
}

}  // namespace

std::optional<std::string> Profile::get(std::string_view entry) const {
  const auto found = entries_.find(entry);
  if (found == entries_.end() || found->second.value.empty()) return std::nullopt;
  return found->second.value;
}

std::string Profile::position(std::string_view entry) const {
  const auto found = entries_.find(entry);
  return found == entries_.end() ? where_ : found->second.position;
}

std::optional<std::string> Profile::nested(std::string_view block, std::string_view entry) const {
  const auto found = entries_.find(block);
  if (found == entries_.end()) return std::nullopt;
  return IniFile::nested({found->second.value, 0}, entry);
}

bool Profile::in_credentials_file(std::string_view entry) const {
  const auto found = entries_.find(entry);
  return found != entries_.end() && found->second.in_credentials_file;
}

void Profile::add(const IniFile& file, const IniSection& section, bool in_credentials_file) {
  where_ = fmt::format("{}, line {}", file.path(), section.line);
  for (const auto& [name, entry] : section.entries)
    entries_[name] = {entry.value, file.position(entry), in_credentials_file};
}

Profile& Profiles::at(const std::string& name) {
  Profile& profile = profiles_[name];
  profile.name_ = name;
  return profile;
}

Profiles Profiles::load(const CredentialContext& context) {
  const auto path_of = [&](const char* variable, const char* standard) {
    return expand_home(context.environment(variable).value_or(standard), context);
  };
  Profiles result;
  result.credentials_path_ = path_of("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials");
  result.config_path_ = path_of("AWS_CONFIG_FILE", "~/.aws/config");
  if (const auto config = IniFile::load(result.config_path_)) {
    for (const IniSection& section : config->sections()) {
      if (section.name == "default") {
        if (config->find("profile default") == nullptr) result.at("default").add(*config, section, false);
      } else if (const auto profile = name_after(section.name, "profile")) {
        result.at(*profile).add(*config, section, false);
      } else if (const auto services = name_after(section.name, "services")) {
        result.services_[*services].add(*config, section, false);
      } else {
        result.others_.insert(section.name);
      }
    }
  }
  if (const auto credentials = IniFile::load(result.credentials_path_))
    for (const IniSection& section : credentials->sections())
      result.at(section.name).add(*credentials, section, true);
  return result;
}

const Profile* Profiles::find(std::string_view name) const {
  const auto found = profiles_.find(name);
  return found == profiles_.end() ? nullptr : &found->second;
}

const Profile& Profiles::require(std::string_view name) const {
  if (const Profile* profile = find(name)) return *profile;
  if (others_.contains(name))
    throw ConfigError(fmt::format("There is no AWS profile '{0}' in {1} or {2}; write [profile {0}] instead of [{0}] there.",
                                  name, credentials_path_, config_path_));
  std::vector<std::string_view> names;
  for (const auto& [known, profile] : profiles_) names.push_back(known);
  throw ConfigError(
      fmt::format("There is no AWS profile '{}' in {} or {}; {}.", name, credentials_path_, config_path_,
                  names.empty() ? "they have none, or do not exist"
                                : fmt::format("the profiles there are: {}", fmt::join(names, ", "))));
}

std::optional<std::string> Profiles::endpoint_url(const Profile& profile, std::string_view service) const {
  if (const auto name = profile.get("services")) {
    const auto services = services_.find(*name);
    if (services == services_.end())
      throw ConfigError(fmt::format("{}: there is no section [services {}] in {}.",
                                    profile.position("services"), *name, config_path_));
    if (auto url = services->second.nested(service, "endpoint_url")) return url;
  }
  return profile.get("endpoint_url");
}

std::optional<std::string> chosen_profile(const std::string& option, const CredentialContext& context) {
  if (!option.empty()) return option;
  if (auto name = context.environment("AWS_PROFILE")) return name;
  return context.environment("AWS_DEFAULT_PROFILE");
}

ProfileSettings load_profile_settings(const std::string& profile_option, const CredentialContext& context) {
  const Profiles profiles = Profiles::load(context);
  const auto chosen = chosen_profile(profile_option, context);
  const Profile* profile = chosen ? &profiles.require(*chosen) : profiles.find("default");
  if (profile == nullptr) return {};
  ProfileSettings settings;
  settings.region = profile->get("region").value_or("");
  if (context.environment("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") != "true")
    settings.endpoint_url = profiles.endpoint_url(*profile, "s3").value_or("");
  settings.ca_bundle = expand_home(profile->get("ca_bundle").value_or(""), context);
  settings.addressing_style = profile->nested("s3", "addressing_style").value_or("");
  return settings;
}

}  // namespace alnair
