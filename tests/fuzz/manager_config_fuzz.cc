// Whatever manager.conf contains, it is a configuration within its limits, or refused with the line and without a secret.
#include "alnair/core/error.h"
#include "fuzz.h"
#include "manager/config/config.h"

using namespace alnair;
using namespace alnair::manager;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::map<std::string, std::string> environment = {{"ALNAIR_MANAGER_STATE_DIR", "/state"}};
  try {
    const Config config = parse_config(fuzz::text_of(data, size), "file", environment);
    fuzz::check(config.max_body >= 1024 && config.max_header >= 4096 && config.request_timeout >= 1, "limits hold");
    fuzz::check(config.state_dir == "/state" && config.seal_key.empty(), "the environment wins, and a file has no key");
    fuzz::check(config.tls_certificate.empty() == config.tls_key.empty(), "a certificate has its key");
    for (const ConfigValue& value : config_values(config))
      fuzz::check(value.key != "uri" || value.value.find("://") == std::string::npos || value.value.find('@') == std::string::npos ||
                      value.value.find("://(hidden)@") != std::string::npos,
                  "a password is not shown");
  } catch (const ConfigError& error) {
    fuzz::check(std::string_view(error.what()).size() > 4, "a message says something");
  }
  return 0;
}
