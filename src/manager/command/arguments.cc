#include "manager/command/arguments.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#include "core/nearest_names.h"
#include "manager/command/command.h"

namespace alnair::manager {

Arguments parse_arguments(const std::vector<std::string>& arguments, const std::set<std::string>& options,
                          const std::set<std::string>& flags) {
  Arguments result;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("--") || argument.size() == 2) {
      result.words.push_back(argument);
      continue;
    }
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(2, equals == std::string::npos ? equals : equals - 2);
    if (flags.contains(name)) {
      if (equals != std::string::npos) throw UsageError(fmt::format("--{} takes no value", name));
      result.options[name] = "";
    } else if (options.contains(name)) {
      if (equals == std::string::npos && i + 1 == arguments.size())
        throw UsageError(fmt::format("--{} needs a value", name));
      result.options[name] = equals == std::string::npos ? arguments[++i] : argument.substr(equals + 1);
    } else {
      std::vector<std::string> known(options.begin(), options.end());
      known.insert(known.end(), flags.begin(), flags.end());
      const auto near = nearest_names(name, std::move(known), 1);
      throw UsageError(fmt::format("unknown option --{}{}", name,
                                   near.empty() ? "" : fmt::format("; did you mean --{}?", near.front())));
    }
  }
  return result;
}

double seconds_to_wait() {
  const char* text = std::getenv("ALNAIR_WAIT");
  if (text == nullptr || *text == '\0') return 600;
  double seconds = 0;
  char end = 0;
  if (std::sscanf(text, "%lf%c", &seconds, &end) != 1 || !(seconds >= 0) || seconds > 1e9)
    throw UsageError("ALNAIR_WAIT: expected a number of seconds");
  return seconds;
}

}  // namespace alnair::manager
