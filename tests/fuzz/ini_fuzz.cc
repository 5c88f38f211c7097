// Whatever an INI file contains, it is parsed, or refused with a line's number and without a word of it.
#include "alnair/core/error.h"
#include "core/ini.h"
#include "fuzz.h"
#include "s3/credentials/process.h"

using namespace alnair;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  try {
    const IniFile file = IniFile::parse(text, "file");
    for (const IniSection& section : file.sections()) {
      fuzz::check(!section.name.empty(), "a section has a name");
      fuzz::check(file.find(section.name) == &section, "a section is found by its name");
      for (const auto& [name, entry] : section.entries) {
        fuzz::check(!name.empty() && entry.line > section.line,
                    "an entry has a name and follows its section");
        (void)IniFile::nested(entry, "endpoint_url");
      }
    }
  } catch (const ConfigError& error) {
    const std::string_view message = error.what();
    fuzz::check(message.substr(0, 11) == "file, line " && message.size() < 200, "a message names the line");
  }
  try {
    fuzz::check(!parse_process_credentials(std::string(text), "file, line 1").keys.secret_access_key.empty(),
                "credentials are whole");
  } catch (const ConfigError& error) {
    fuzz::check(std::string_view(error.what()).size() < 200, "a message does not quote the answer");
  }
  return 0;
}
