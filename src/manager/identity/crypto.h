// What the manager keeps secrets with: the only place of the manager that uses OpenSSL.
//
// Thread safety: pure functions of their arguments and the system's randomness; Sealer is immutable.
// All throw Error when OpenSSL fails, which means that it is misconfigured or out of memory.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace alnair::manager {

// 256 random bits as 43 characters of base64url: a token, or a generated password.
std::string random_token();
// 96 random bits in hex: an id that is no secret.
std::string random_id();

// SHA-256 in hex: tokens have 256 random bits, so that a fast hash without salt is as good as any.
std::string hash_token(std::string_view token);
// Compares in a time that depends on the lengths only.
bool equal_secrets(std::string_view a, std::string_view b);

// "scrypt$15$8$1$SALT$KEY" (log2 N, r, p; hex). Takes about 50 ms of CPU and 32 MiB.
std::string hash_password(std::string_view password);
// False also for a hash that is malformed or asks for more than 64 MiB.
bool check_password(std::string_view password, std::string_view hash);

// Seals secrets with AES-256-GCM under one key. `context` (whose secret it is) is authenticated with it: a sealed text
// that was moved to another record does not open.
class Sealer {
 public:
  // `key`: 64 hex digits. nullopt: it is no such text.
  static std::optional<Sealer> from_hex(std::string_view key);
  static std::string new_key();  // 64 hex digits

  std::string seal(std::string_view plain, std::string_view context) const;
  // nullopt: sealed under another key or for another context, or damaged.
  std::optional<std::string> open(std::string_view sealed, std::string_view context) const;

 private:
  std::array<unsigned char, 32> key_{};
};

}  // namespace alnair::manager
