// The profiles of ~/.aws/credentials and ~/.aws/config (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE).
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/ini.h"
#include "s3/credentials/context.h"

namespace alnair {

struct ProfileEntry {
  std::string value;
  std::string position;  // "FILE, line N", for messages
  bool in_credentials_file = false;
};

// One profile, of both files; where both have an entry, the credentials file's counts.
class Profile {
 public:
  const std::string& name() const { return name_; }
  // The value, unless it is absent or empty.
  std::optional<std::string> get(std::string_view entry) const;
  bool in_credentials_file(std::string_view entry) const;
  // Where the entry, or else the profile, stands.
  std::string position(std::string_view entry) const;
  // A value of the nested block `block` ("s3 =" with lines below it).
  std::optional<std::string> nested(std::string_view block, std::string_view entry) const;

 private:
  friend class Profiles;
  void add(const IniFile& file, const IniSection& section, bool in_credentials_file);
  std::string name_;
  std::string where_;
  std::map<std::string, ProfileEntry, std::less<>> entries_;
};

// Immutable, so thread-safe.
class Profiles {
 public:
  // Absent files are empty ones. Throws ConfigError when one is malformed or cannot be read.
  static Profiles load(const CredentialContext& context);

  const Profile* find(std::string_view name) const;  // nullptr: none
  // Throws ConfigError that names the profiles there are.
  const Profile& require(std::string_view name) const;
  // An endpoint of `service` ("s3") in the [services] section that the profile names; else its endpoint_url.
  std::optional<std::string> endpoint_url(const Profile& profile, std::string_view service) const;

  const std::string& credentials_path() const { return credentials_path_; }
  const std::string& config_path() const { return config_path_; }

 private:
  Profile& at(const std::string& name);
  std::string credentials_path_, config_path_;
  std::map<std::string, Profile, std::less<>> profiles_;
  std::map<std::string, Profile, std::less<>> services_;
  std::set<std::string, std::less<>> others_;  // sections of the config file that are no profiles, for a hint
};

// The profile in force: `option`, else AWS_PROFILE (or AWS_DEFAULT_PROFILE); nullopt: "default", if it
// exists.
std::optional<std::string> chosen_profile(const std::string& option, const CredentialContext& context);

// What the profile in force says beside credentials. Empty: nothing.
struct ProfileSettings {
  std::string region, endpoint_url, ca_bundle, addressing_style;
};

// Throws ConfigError as Profiles::load and require do.
ProfileSettings load_profile_settings(const std::string& profile_option, const CredentialContext& context);

}  // namespace alnair
