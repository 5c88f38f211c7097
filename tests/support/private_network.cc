#include "support/private_network.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "support/python.h"

namespace alnair::testing {
namespace {

std::string namespace_of(const std::string& process) {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/" + process + "/ns/net", error).string();
}

void run(const std::string& commands) { output_of("(set -e; " + commands + ") 2>&1"); }

}  // namespace

std::unique_ptr<PrivateNetwork> PrivateNetwork::make(int hosts) {
  const int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (home < 0 || unshare(CLONE_NEWNET) != 0) {
    std::fprintf(stderr, "no network of the test's own: %s\n", std::strerror(errno));
    if (home >= 0) close(home);
    return nullptr;
  }
  std::unique_ptr<PrivateNetwork> network(new PrivateNetwork(home));
  try {
    run("ip link set lo up; ip link add bridge type bridge; ip address add 10.77.0.1/24 dev bridge; ip link set bridge up");
    for (int i = 0; i < hosts; ++i) network->add_host();
  } catch (const std::runtime_error& error) {  // no ip, no kind of link, a process that may not start
    std::fprintf(stderr, "no network of the test's own: %s\n", error.what());
    return nullptr;
  }
  return network;
}

PrivateNetwork::~PrivateNetwork() {
  holders_.clear();
  if (setns(home_, CLONE_NEWNET) != 0) std::perror("cannot leave the test's own network");
  close(home_);
}

void PrivateNetwork::add_host() {
  const std::size_t number = places_.size();
  // It does nothing but keep the namespace.
  const ChildProcess& holder = holders_.emplace_back(std::vector<std::string>{"unshare", "--net", "sleep", "infinity"});
  const std::string pid = std::to_string(holder.pid()), enter = "nsenter --net=/proc/" + pid + "/ns/net";
  if (!eventually([&] { return namespace_of(pid) != namespace_of("thread-self"); }))
    throw std::runtime_error("unshare --net does not start");
  const std::string address = fmt::format("10.77.0.{}", 10 + number);
  run(fmt::format("ip link add cable{0} type veth peer name uplink netns {1}; ip link set cable{0} master bridge up;"
                  " {2} ip link set lo up; {2} ip address add {3}/24 dev uplink; {2} ip link set uplink up",
                  number, pid, enter, address));
  places_.push_back({address, {"nsenter", "--net=/proc/" + pid + "/ns/net"}});
}

void PrivateNetwork::pull(int host) { run(fmt::format("ip link set cable{} down", host)); }
void PrivateNetwork::plug(int host) { run(fmt::format("ip link set cable{} up", host)); }

}  // namespace alnair::testing
