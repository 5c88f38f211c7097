// The administrator's commands: each is a call or two of the manager's API.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace alnair::manager {

using Command = std::function<int(const std::vector<std::string>& arguments)>;

// By name: status, jobs, datasets, clients, register, deregister, pin, forget, user, token, reseal.
std::map<std::string, Command> admin_commands();

}  // namespace alnair::manager
