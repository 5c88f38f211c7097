// What the error replies of Redis mean. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "redis/client.h"

namespace alnair::redis {

enum class ServerError {
  kMoved,        // the slot is another node's, from now on
  kAsk,          // this once, another node has the key
  kTryAgain,     // a slot is on its way, and the keys of a command are on both sides
  kClusterDown,  // no node serves the slot, or the cluster has no majority
  kMasterDown,   // a replica that has lost its master
  kReadOnly,     // a write came to a replica: the map is old
  kLoading,      // the node reads its data set and answers nothing yet
  kBusy,         // a script runs for too long
  kNoScript,
  kNoAuth,  // the connection is not authenticated
  kWrongPass,
  kNoPerm,  // the ACL lacks the command or the key
  kOutOfMemory,
  kUnknownCommand,  // too old, or a proxy
  kOther,
};

struct ServerErrorInfo {
  ServerError error = ServerError::kOther;
  std::uint16_t slot = 0;  // of kMoved and kAsk, like `target`
  Address target = {};     // an empty host means the host of the node that answered
};

// `text` is an error reply without its '-'.
ServerErrorInfo understand(std::string_view text);

// The failure that the caller sees when nothing helped.
Failure failure_of(ServerError error);

// The error reply as part of a message: bounded, printable.
std::string quoted(std::string_view text);

}  // namespace alnair::redis
