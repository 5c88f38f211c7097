// AWS's Security Token Service: temporary credentials for a role.
#pragma once

#include <chrono>
#include <string>

#include "s3/credentials/context.h"

namespace alnair {

struct AssumeRole {
  std::string role_arn;
  std::string session_name;  // empty: "alnair-" and the time
  std::string external_id;
  std::chrono::seconds duration{0};  // 0: the role's default
  std::string region;                // empty: the global endpoint
  std::string endpoint_url;          // empty: AWS's
};

// Throw AccessError (refused: says what STS says), SourceError (no answer), ConfigError (endpoint_url).
LoadedCredentials assume_role(const AssumeRole& request, const S3Credentials& source,
                              const CredentialContext& context, const Interrupt& interrupt);
LoadedCredentials assume_role_with_web_identity(const AssumeRole& request, const std::string& token_file,
                                                const CredentialContext& context, const Interrupt& interrupt);

}  // namespace alnair
