// Splits a command's arguments into options and words. Pure.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace alnair::manager {

struct Arguments {
  std::vector<std::string> words;
  std::map<std::string, std::string> options;  // without the dashes; flags have the value ""

  bool has(const std::string& option) const { return options.contains(option); }
  std::string value(const std::string& option, const std::string& otherwise = "") const {
    const auto found = options.find(option);
    return found == options.end() ? otherwise : found->second;
  }
};

// "--option value", "--option=value" and "--flag". Throws UsageError for an option that is neither, naming a near one.
Arguments parse_arguments(const std::vector<std::string>& arguments, const std::set<std::string>& options,
                          const std::set<std::string>& flags);

// $ALNAIR_WAIT, 600 where that is not set. Throws UsageError.
double seconds_to_wait();

}  // namespace alnair::manager
