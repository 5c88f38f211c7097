// URLs of sources and endpoints: they parse or are a ConfigError, and a parsed endpoint's own URL parses to the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "alnair/core/error.h"
#include "source/url.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto source = alnair::parse_source_url(text);
    if (source.kind == alnair::SourceUrl::Kind::kS3 && source.bucket.empty()) __builtin_trap();
    if (source.kind == alnair::SourceUrl::Kind::kFile && !source.path.starts_with('/')) __builtin_trap();
  } catch (const alnair::ConfigError&) {
  }
  std::string url;
  try {
    url = alnair::parse_endpoint_url(text).url();
  } catch (const alnair::ConfigError&) {
    return 0;
  }
  if (alnair::parse_endpoint_url(url).url() != url) __builtin_trap();  // what it throws is a finding, too
  return 0;
}
