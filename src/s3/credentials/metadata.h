// Credentials that the machine offers: of a container (ECS, EKS Pod Identity) or of an EC2 instance (IMDSv2).
#pragma once

#include <optional>
#include <string>

#include "s3/credentials/context.h"

namespace alnair {

// nullopt: neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor _FULL_URI is set. Throws ConfigError (a URI
// that may not be trusted with the token, no such token file), SourceError (no answer, or no credentials in
// it).
std::optional<LoadedCredentials> container_credentials(const CredentialContext& context,
                                                       const Interrupt& interrupt);

// What the instance metadata service said, or in `absent` why there is none, for the message that nothing was
// found.
struct InstanceCredentials {
  std::optional<LoadedCredentials> credentials;
  std::string absent;
};

// Short timeouts: most machines are no EC2 instances. Throws SourceError when the service answers, but not
// rightly.
InstanceCredentials instance_credentials(const CredentialContext& context, const Interrupt& interrupt);

}  // namespace alnair
