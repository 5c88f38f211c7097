// INI files: whatever the text is, it parses or is a ConfigError.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "alnair/core/error.h"
#include "core/ini.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto file = alnair::IniFile::parse({reinterpret_cast<const char*>(data), size}, "file");
    for (const auto& section : file.sections()) {
      if (file.find(section.name) == nullptr) __builtin_trap();
      for (const auto& [name, entry] : section.entries) {
        if (section.find(name) != &entry) __builtin_trap();
        (void)file.position(entry);
        (void)alnair::IniFile::nested(entry, "a");
      }
    }
  } catch (const alnair::ConfigError&) {
  }
  return 0;
}
