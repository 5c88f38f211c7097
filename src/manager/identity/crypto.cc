#include "manager/identity/crypto.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>

#include "alnair/core/error.h"

namespace alnair::manager {
namespace {

constexpr std::size_t kNonce = 12, kTag = 16;
constexpr int kLogN = 15, kR = 8, kP = 1;
constexpr std::uint64_t kMaxScryptMemory = 64ull << 20;

using Bytes = std::span<unsigned char>;
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
unsigned char* bytes_of(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

void require(bool done, const char* what) {
  if (!done) throw Error(fmt::format("OpenSSL fails to {}", what));
}

void fill_random(Bytes bytes) {
  require(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1, "make random bytes");
}

std::string hex(std::span<const unsigned char> bytes) {
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

bool from_hex(std::string_view text, Bytes bytes) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  if (text.size() != 2 * bytes.size()) return false;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<unsigned char>(high << 4 | low);
  }
  return true;
}

bool scrypt(std::string_view password, std::span<const unsigned char> salt, int log_n, int r, int p, Bytes key) {
  return EVP_PBE_scrypt(password.data(), password.size(), salt.data(), salt.size(), std::uint64_t{1} << log_n,
                        static_cast<std::uint64_t>(r), static_cast<std::uint64_t>(p), kMaxScryptMemory, key.data(),
                        key.size()) == 1;
}

CipherContext new_context() {
  CipherContext context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  require(context != nullptr, "make a cipher");
  return context;
}

}  // namespace

std::string random_token() {
  std::array<unsigned char, 32> bytes;
  fill_random(bytes);
  std::string text(45, '\0');  // 44 characters and a NUL
  EVP_EncodeBlock(bytes_of(text), bytes.data(), static_cast<int>(bytes.size()));
  text.resize(43);  // without the padding
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text;
}

std::string random_id() {
  std::array<unsigned char, 12> bytes;
  fill_random(bytes);
  return hex(bytes);
}

std::string hash_token(std::string_view token) {
  std::array<unsigned char, 32> digest;
  require(EVP_Digest(token.data(), token.size(), digest.data(), nullptr, EVP_sha256(), nullptr) == 1, "hash");
  return hex(digest);
}

bool equal_secrets(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string hash_password(std::string_view password) {
  std::array<unsigned char, 16> salt;
  std::array<unsigned char, 32> key;
  fill_random(salt);
  require(scrypt(password, salt, kLogN, kR, kP, key), "hash a password");
  return fmt::format("scrypt${}${}${}${}${}", kLogN, kR, kP, hex(salt), hex(key));
}

bool check_password(std::string_view password, std::string_view hash) {
  int log_n = 0, r = 0, p = 0;
  char salt_hex[33] = "", key_hex[65] = "";
  const std::string text(hash);
  if (std::sscanf(text.c_str(), "scrypt$%2d$%2d$%2d$%32[0-9a-f]$%64[0-9a-f]", &log_n, &r, &p, salt_hex, key_hex) != 5)
    return false;
  std::array<unsigned char, 16> salt;
  std::array<unsigned char, 32> expected, key;
  if (!from_hex(salt_hex, salt) || !from_hex(key_hex, expected) || log_n < 1 || r < 1 || p < 1) return false;
  return scrypt(password, salt, log_n, r, p, key) && CRYPTO_memcmp(key.data(), expected.data(), key.size()) == 0;
}

std::optional<Sealer> Sealer::from_hex(std::string_view key) {
  Sealer sealer;
  if (!manager::from_hex(key, sealer.key_)) return std::nullopt;
  return sealer;
}

std::string Sealer::new_key() {
  std::array<unsigned char, 32> bytes;
  fill_random(bytes);
  return hex(bytes);
}

// Nonce, ciphertext, tag.
std::string Sealer::seal(std::string_view plain, std::string_view context) const {
  std::string sealed(kNonce + plain.size() + kTag, '\0');
  unsigned char* const out = bytes_of(sealed);
  fill_random({out, kNonce});
  const auto cipher = new_context();
  int length = 0;
  require(
      EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key_.data(), out) == 1 &&
          EVP_EncryptUpdate(cipher.get(), nullptr, &length, bytes_of(context), static_cast<int>(context.size())) == 1 &&
          EVP_EncryptUpdate(cipher.get(), out + kNonce, &length, bytes_of(plain), static_cast<int>(plain.size())) ==
              1 &&
          EVP_EncryptFinal_ex(cipher.get(), out + kNonce + plain.size(), &length) == 1 &&
          EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTag, out + kNonce + plain.size()) == 1,
      "seal a secret");
  return sealed;
}

std::optional<std::string> Sealer::open(std::string_view sealed, std::string_view context) const {
  if (sealed.size() < kNonce + kTag) return std::nullopt;
  const std::size_t size = sealed.size() - kNonce - kTag;
  std::string plain(size, '\0'), tag(sealed.substr(kNonce + size));
  const auto cipher = new_context();
  int length = 0;
  const bool whole =
      EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key_.data(), bytes_of(sealed)) == 1 &&
      EVP_DecryptUpdate(cipher.get(), nullptr, &length, bytes_of(context), static_cast<int>(context.size())) == 1 &&
      EVP_DecryptUpdate(cipher.get(), bytes_of(plain), &length, bytes_of(sealed) + kNonce, static_cast<int>(size)) ==
          1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTag, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(cipher.get(), bytes_of(plain) + size, &length) == 1;
  if (!whole) return std::nullopt;
  return plain;
}

}  // namespace alnair::manager
