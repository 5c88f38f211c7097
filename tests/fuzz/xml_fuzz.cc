// Whatever a server answers is a page, an error, or a SourceError that can be shown to people.
#include "alnair/core/error.h"
#include "fuzz.h"
#include "s3/xml.h"

using namespace alnair;

namespace {

void check_message(const SourceError& error) {
  const std::string_view message = error.what();
  fuzz::check(message.size() < 1000, "a message is short");
  for (const char c : message) fuzz::check(static_cast<unsigned char>(c) >= 0x20, "a message is one line");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  try {
    const ListPage page = parse_list_page(std::string(text));
    for (const ObjectInfo& object : page.objects) fuzz::check(!object.key.empty(), "an object has a key");
  } catch (const SourceError& error) {
    check_message(error);
  }
  try {
    fuzz::check(!parse_sts_credentials(std::string(text)).secret_access_key.empty(), "credentials are whole");
  } catch (const SourceError& error) {
    check_message(error);
  }
  (void)parse_error_body(text);
  (void)parse_iso8601_ms(text);
  return 0;
}
