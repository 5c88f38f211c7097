// A listening TCP socket.
#pragma once

#include <cstdint>
#include <string>

#include "core/file.h"

namespace alnair::manager {

// Binds and listens. `address` is IPv4 or IPv6 in numbers. Throws ConfigError that names what is wrong.
FileDescriptor listen_on(const std::string& address, std::uint16_t port);

// The port that a listening socket got.
std::uint16_t bound_port(int socket);

// 127.0.0.0/8 and ::1. Pure.
bool is_loopback(const std::string& address);

}  // namespace alnair::manager
