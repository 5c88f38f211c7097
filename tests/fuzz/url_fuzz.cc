// Whatever a URL contains, it is parsed, or refused with a message of one line; what was parsed can be parsed
// again.
#include "alnair/core/error.h"
#include "fuzz.h"
#include "redis/url.h"
#include "s3/sigv4.h"
#include "source/url.h"

using namespace alnair;

namespace {

void check_message(const ConfigError& error) {
  const std::string_view message = error.what();
  fuzz::check(message.size() < 2000, "a message is short");
  for (const char c : message) fuzz::check(static_cast<unsigned char>(c) >= 0x20, "a message is one line");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  try {
    const SourceUrl url = parse_source_url(text);
    if (url.kind == SourceUrl::Kind::kFile) {
      fuzz::check(!url.path.empty() && url.path[0] == '/', "a file's path is absolute");
      const std::string encoded = "file://" + percent_encoded(url.path, Slashes::kKeep);
      fuzz::check(parse_source_url(encoded).path == url.path, "a file's path survives encoding");
    } else {
      const SourceUrl again = parse_source_url("s3://" + url.bucket + "/" + url.path);
      fuzz::check(again.bucket == url.bucket && again.path == url.path, "an S3 URL is stable");
    }
  } catch (const ConfigError& error) {
    check_message(error);
  }
  try {
    const Endpoint endpoint = parse_endpoint_url(text);
    const Endpoint again = parse_endpoint_url(endpoint.url());
    fuzz::check(again.url() == endpoint.url() && again.port == endpoint.port, "an endpoint is stable");
    (void)endpoint.is_ip_address();
  } catch (const ConfigError& error) {
    check_message(error);
  }
  try {
    const redis::Options options = redis::parse_url(text);
    fuzz::check(!options.seeds.empty(), "there is a server");
    for (const redis::Address& seed : options.seeds)
      fuzz::check(seed.host.empty() ? seed.path[0] == '/' : seed.port != 0, "a server can be reached");
  } catch (const ConfigError& error) {
    check_message(error);
  }
  return 0;
}
