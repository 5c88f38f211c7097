// Whether the servers let their user do what a job needs.
#pragma once

#include "cache/redis/redis_keys.h"
#include "redis/client.h"

namespace alnair {

// Asks by commands that leave nothing behind, in one round trip. Throws AccessError, which names all that is denied, for a user who cannot read
// chunks; what else is denied is left out later, and said in the log now. `flushes`: what a flusher needs, too. What cannot be found out
// passes. Waits. Not through a proxy, which may end the connection at a command that it does not know.
void check_redis_rights(redis::Client& client, const RedisKeys& keys, bool flushes);

}  // namespace alnair
