#include "s3/credentials/chain.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "alnair/core/error.h"
#include "s3/credentials/metadata.h"
#include "s3/credentials/process.h"
#include "s3/credentials/profiles.h"
#include "s3/credentials/sts.h"

namespace alnair {
namespace {

// They become headers. A line break comes from `echo secret | base64`, say.
void check_printable(std::string_view name, std::string_view value) {
  if (std::any_of(value.begin(), value.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
    throw ConfigError(fmt::format("{} has a control character in it, such as a line break at its end.", name));
}

std::optional<LoadedCredentials> environment_credentials(const CredentialContext& context) {
  const auto key = context.environment("AWS_ACCESS_KEY_ID");
  const auto secret = context.environment("AWS_SECRET_ACCESS_KEY");
  if (!key && !secret) return std::nullopt;
  if (!key) throw ConfigError("AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not; set both.");
  if (!secret) throw ConfigError("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not; set both.");
  auto token = context.environment("AWS_SESSION_TOKEN");
  if (!token) token = context.environment("AWS_SECURITY_TOKEN");  // its older name
  check_printable("AWS_ACCESS_KEY_ID", *key);
  check_printable("AWS_SECRET_ACCESS_KEY", *secret);
  check_printable("AWS_SESSION_TOKEN", token.value_or(""));
  return LoadedCredentials{{*key, *secret, token.value_or("")}, std::nullopt, "the environment"};
}

// AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL, the profile's, or empty: AWS's own.
std::string sts_endpoint(const Profiles& profiles, const Profile* profile, const CredentialContext& context) {
  if (context.environment("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == "true") return "";
  for (const char* variable : {"AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"})
    if (const auto url = context.environment(variable)) return *url;
  return profile == nullptr ? "" : profiles.endpoint_url(*profile, "sts").value_or("");
}

// Resolves one profile, and those that it refers to.
class ProfileChain {
 public:
  ProfileChain(const Profiles& profiles, std::string region, const CredentialContext& context,
               const Interrupt& interrupt)
      : profiles_(profiles), region_(std::move(region)), context_(context), interrupt_(interrupt) {}

  // nullopt: the profile has nothing to do with credentials.
  std::optional<LoadedCredentials> load(const Profile& profile) {
    const bool seen = std::find(visited_.begin(), visited_.end(), profile.name()) != visited_.end();
    visited_.push_back(profile.name());
    // A role comes first, except where another role refers to this profile for its keys (it may refer to
    // itself).
    if (profile.get("role_arn") && !(visited_.size() > 1 && has_keys(profile))) {
      if (seen)
        throw ConfigError(fmt::format("{}: the profiles refer to each other in a circle: {}.",
                                      profile.position("source_profile"), fmt::join(visited_, " -> ")));
      if (profile.get("source_profile") || profile.get("credential_source")) return load_role(profile);
      if (profile.get("web_identity_token_file")) return load_web_identity(profile);
      if (!has_keys(profile) && !profile.get("credential_process"))
        fail(profile, "role_arn",
             "role_arn needs source_profile, credential_source or web_identity_token_file beside it");
    }
    const auto command = profile.get("credential_process");
    if (has_keys(profile) && (!command || profile.in_credentials_file("aws_access_key_id")))
      return load_keys(profile);
    if (command) return run_credential_process(*command, profile.position("credential_process"), interrupt_);
    for (const char* entry : {"sso_session", "sso_start_url", "sso_account_id", "login_session"})
      if (profile.get(entry))
        fail(
            profile, entry,
            fmt::format(
                "profile '{0}' logs in through a browser (SSO), which is not supported directly; let the AWS "
                "CLI do it: run `aws sso login --profile {0}`, and use a profile with the line "
                "credential_process = aws configure export-credentials --profile {0} --format process",
                profile.name()));
    return std::nullopt;
  }

 private:
  static bool has_keys(const Profile& profile) {
    return profile.get("aws_access_key_id") || profile.get("aws_secret_access_key");
  }

  [[noreturn]] static void fail(const Profile& profile, std::string_view entry, std::string_view what) {
    throw ConfigError(fmt::format("{}: {}.", profile.position(entry), what));
  }

  static LoadedCredentials load_keys(const Profile& profile) {
    const auto key = profile.get("aws_access_key_id"), secret = profile.get("aws_secret_access_key");
    if (!key)
      fail(profile, "aws_secret_access_key", "aws_secret_access_key has no aws_access_key_id beside it");
    if (!secret)
      fail(profile, "aws_access_key_id", "aws_access_key_id has no aws_secret_access_key beside it");
    auto token = profile.get("aws_session_token");
    if (!token) token = profile.get("aws_security_token");
    return {{*key, *secret, token.value_or("")}, std::nullopt, fmt::format("profile '{}'", profile.name())};
  }

  AssumeRole role_of(const Profile& profile) {
    AssumeRole role;
    role.role_arn = *profile.get("role_arn");
    role.session_name = profile.get("role_session_name").value_or("");
    role.external_id = profile.get("external_id").value_or("");
    role.region = profile.get("region").value_or(region_);
    role.endpoint_url = sts_endpoint(profiles_, &profile, context_);
    if (const auto text = profile.get("duration_seconds")) {
      int seconds = 0;
      const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), seconds);
      if (error != std::errc() || end != text->data() + text->size() || seconds <= 0)
        fail(profile, "duration_seconds", "duration_seconds is no positive whole number");
      role.duration = std::chrono::seconds(seconds);
    }
    return role;
  }

  LoadedCredentials load_role(const Profile& profile) {
    const auto source_profile = profile.get("source_profile"),
               credential_source = profile.get("credential_source");
    if (source_profile && credential_source)
      fail(profile, "credential_source", "a role has either source_profile or credential_source, not both");
    if (profile.get("mfa_serial"))
      fail(profile, "mfa_serial",
           fmt::format("profile '{0}' asks for an MFA code, which cannot be typed in here; use a profile "
                       "with the line "
                       "credential_process = aws configure export-credentials --profile {0} --format process",
                       profile.name()));
    const AssumeRole role = role_of(profile);
    const LoadedCredentials source = source_profile ? load_source(profile, *source_profile)
                                                    : load_named_source(profile, *credential_source);
    LoadedCredentials loaded = assume_role(role, source.keys, context_, interrupt_);
    loaded.origin = fmt::format("profile '{}' (the role {})", profile.name(), role.role_arn);
    return loaded;
  }

  LoadedCredentials load_source(const Profile& profile, const std::string& name) {
    const Profile* source = profiles_.find(name);
    if (source == nullptr)
      fail(profile, "source_profile", fmt::format("there is no profile '{}' to take credentials from", name));
    if (auto loaded = load(*source)) return *std::move(loaded);
    fail(profile, "source_profile", fmt::format("profile '{}' has no credentials", name));
  }

  LoadedCredentials load_named_source(const Profile& profile, const std::string& source) {
    std::optional<LoadedCredentials> loaded;
    if (source == "Environment")
      loaded = environment_credentials(context_);
    else if (source == "EcsContainer")
      loaded = container_credentials(context_, interrupt_);
    else if (source == "Ec2InstanceMetadata")
      loaded = instance_credentials(context_, interrupt_).credentials;
    else
      fail(profile, "credential_source",
           "credential_source is none of Environment, Ec2InstanceMetadata and EcsContainer");
    if (!loaded)
      fail(profile, "credential_source", fmt::format("there are no credentials of the kind {}", source));
    return *std::move(loaded);
  }

  LoadedCredentials load_web_identity(const Profile& profile) {
    const std::string token_file = expand_home(*profile.get("web_identity_token_file"), context_);
    LoadedCredentials loaded =
        assume_role_with_web_identity(role_of(profile), token_file, context_, interrupt_);
    loaded.origin = fmt::format("profile '{}' ({})", profile.name(), loaded.origin);
    return loaded;
  }

  const Profiles& profiles_;
  const std::string region_;
  const CredentialContext& context_;
  const Interrupt& interrupt_;
  std::vector<std::string> visited_;
};

std::string region_for_sts(const std::string& region, const Profile* profile,
                           const CredentialContext& context) {
  if (!region.empty()) return region;
  for (const char* variable : {"AWS_REGION", "AWS_DEFAULT_REGION"})
    if (const auto value = context.environment(variable)) return *value;
  return profile == nullptr ? "" : profile->get("region").value_or("");
}

}  // namespace

LoadedCredentials load_credentials(const std::string& profile_option, const std::string& region_option,
                                   const CredentialContext& context, const Interrupt& interrupt) {
  std::vector<std::string> looked;
  if (profile_option.empty()) {
    if (auto loaded = environment_credentials(context)) return *std::move(loaded);
    looked.push_back("the environment (AWS_ACCESS_KEY_ID is not set)");
  }

  const Profiles profiles = Profiles::load(context);
  const auto chosen = chosen_profile(profile_option, context);
  const Profile* profile = chosen ? &profiles.require(*chosen) : profiles.find("default");
  const std::string region = region_for_sts(region_option, profile, context);
  if (profile != nullptr)
    if (auto loaded = ProfileChain(profiles, region, context, interrupt).load(*profile))
      return *std::move(loaded);
  looked.push_back(fmt::format("profile '{}' in {} and {}", chosen.value_or("default"),
                               profiles.credentials_path(), profiles.config_path()));

  if (const auto token_file = context.environment("AWS_WEB_IDENTITY_TOKEN_FILE")) {
    AssumeRole role;
    role.role_arn = context.environment("AWS_ROLE_ARN").value_or("");
    if (role.role_arn.empty())
      throw ConfigError("AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not; set both.");
    role.session_name = context.environment("AWS_ROLE_SESSION_NAME").value_or("");
    role.region = region;
    role.endpoint_url = sts_endpoint(profiles, profile, context);
    return assume_role_with_web_identity(role, expand_home(*token_file, context), context, interrupt);
  }
  looked.push_back("web identity (AWS_WEB_IDENTITY_TOKEN_FILE is not set)");

  if (auto loaded = container_credentials(context, interrupt)) return *std::move(loaded);
  looked.push_back("the container (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are not set)");

  InstanceCredentials instance = instance_credentials(context, interrupt);
  if (instance.credentials) return *std::move(instance.credentials);
  looked.push_back(fmt::format("the EC2 instance ({})", instance.absent));

  throw ConfigError(fmt::format(
      "No S3 credentials were found. Looked in: {}. For a public bucket, say that no credentials are wanted: "
      "anonymous=True, or ALNAIR_ANONYMOUS=true.",
      fmt::join(looked, "; ")));
}

}  // namespace alnair
