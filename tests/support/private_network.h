// A network of a test's own: a bridge, and hosts at it, each by a cable that can be pulled. Made of the kernel's namespaces, and
// gone with this object, or with this process.
//
// The thread that makes it moves into it, and what that thread starts (threads, processes, servers on 127.0.0.1) is there, too.
// So it comes before everything else that a test makes, and goes last.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "support/child_process.h"
#include "support/redis_servers.h"

namespace alnair::testing {

class PrivateNetwork {
 public:
  // Null, with a line on stderr, where the system does not allow it.
  static std::unique_ptr<PrivateNetwork> make(int hosts);
  ~PrivateNetwork();

  const std::vector<RedisPlace>& hosts() const { return places_; }
  // Packets to and from the host are lost; nobody is told.
  void pull(int host);
  void plug(int host);

 private:
  explicit PrivateNetwork(int home) : home_(home) {}
  void add_host();

  const int home_;  // the namespace to go back to
  std::vector<ChildProcess> holders_;
  std::vector<RedisPlace> places_;
};

}  // namespace alnair::testing
