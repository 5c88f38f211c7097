// AWS's default credential chain. The first link that has credentials counts:
//
//   1. the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (not when a profile was
//   asked for)
//   2. the profile of ~/.aws/credentials and ~/.aws/config: a role to assume (source_profile,
//   credential_source,
//      web_identity_token_file), keys in the credentials file, credential_process, keys in the config file
//   3. web identity: AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN
//   4. the container: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or AWS_CONTAINER_CREDENTIALS_FULL_URI
//   5. the EC2 instance (IMDSv2)
//
// A link that is configured but fails ends the search: other credentials than those meant are worse than
// none.
#pragma once

#include <string>

#include "s3/credentials/context.h"

namespace alnair {

// Blocks (network, processes). `profile`: the option, empty for AWS_PROFILE. `region`: for STS, may be empty.
// Throws ConfigError (malformed; nothing found, with all the places where it looked), AccessError,
// SourceError.
LoadedCredentials load_credentials(const std::string& profile, const std::string& region,
                                   const CredentialContext& context, const Interrupt& interrupt);

}  // namespace alnair
