// What S3 and STS answer in XML: it parses or is a SourceError.
#include <cstddef>
#include <cstdint>
#include <string>

#include "alnair/core/error.h"
#include "s3/xml.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string body(reinterpret_cast<const char*>(data), size);
  try {
    (void)alnair::parse_list_page(body);
  } catch (const alnair::SourceError&) {
  }
  try {
    (void)alnair::parse_sts_credentials(body);
  } catch (const alnair::SourceError&) {
  }
  (void)alnair::parse_error_body(body);
  (void)alnair::parse_iso8601_ms(body);
  return 0;
}
