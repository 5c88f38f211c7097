#include "s3/checksum.h"

#include <openssl/evp.h>

#include <array>
#include <cstring>

namespace alnair {
namespace {

// Sixteen bytes a step: table k is the effect of a byte that k more bytes follow.
template <typename Word, Word kPolynomial>
struct CrcTables {
  std::array<std::array<Word, 256>, 16> table{};

  constexpr CrcTables() {
    for (unsigned byte = 0; byte < 256; ++byte) {
      Word crc = byte;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
      table[0][byte] = crc;
    }
    for (std::size_t k = 1; k < table.size(); ++k)
      for (std::size_t byte = 0; byte < 256; ++byte)
        table[k][byte] = (table[k - 1][byte] >> 8) ^ table[0][table[k - 1][byte] & 0xff];
  }
};

template <typename Word, Word kPolynomial>
Word crc_of(std::span<const std::byte> bytes, Word crc) {
  static constexpr CrcTables<Word, kPolynomial> kTables;
  const auto& table = kTables.table;
  crc = static_cast<Word>(~crc);
  const auto* at = reinterpret_cast<const std::uint8_t*>(bytes.data());
  std::size_t left = bytes.size();
  for (; left >= 16; left -= 16, at += 16) {
    std::array<std::uint8_t, 16> block;
    std::memcpy(block.data(), at, block.size());
    for (std::size_t i = 0; i < sizeof(Word); ++i) block[i] ^= static_cast<std::uint8_t>(crc >> (8 * i));
    crc = 0;
    for (std::size_t i = 0; i < block.size(); ++i) crc ^= table[15 - i][block[i]];
  }
  for (; left > 0; --left, ++at) crc = (crc >> 8) ^ table[0][(crc ^ *at) & 0xff];
  return static_cast<Word>(~crc);
}

// Empty: this OpenSSL refuses that digest.
std::string digest(const EVP_MD* kind, std::span<const std::byte> bytes) {
  std::string result(EVP_MAX_MD_SIZE, '\0');
  unsigned size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(result.data()), &size, kind,
                 nullptr) != 1)
    size = 0;
  result.resize(size);
  return result;
}

template <typename Word>
std::string big_endian(Word value) {
  std::string result(sizeof value, '\0');
  for (std::size_t i = 0; i < sizeof value; ++i)
    result[i] = static_cast<char>(value >> (8 * (sizeof value - 1 - i)));
  return result;
}

std::string base64(std::string_view bytes) {
  std::string result(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(result.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  result.resize(static_cast<std::size_t>(size));
  return result;
}

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t crc) {
  return crc_of<std::uint32_t, 0xEDB88320u>(bytes, crc);
}
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc) {
  return crc_of<std::uint32_t, 0x82F63B78u>(bytes, crc);
}
std::uint64_t crc64nvme(std::span<const std::byte> bytes, std::uint64_t crc) {
  return crc_of<std::uint64_t, 0x9A6C9329AC4BC9B5u>(bytes, crc);
}

ChecksumVerdict verify_checksum(const HttpHeaders& headers, std::span<const std::byte> body) {
  if (headers.find("x-amz-checksum-type") == "COMPOSITE") return ChecksumVerdict::kAbsent;
  const auto check = [&](std::string_view name, auto compute) {
    const auto expected = headers.find(name);
    // "…-3": the checksum of the checksums of three parts.
    if (!expected || expected->empty() || expected->find('-') != std::string_view::npos)
      return ChecksumVerdict::kAbsent;
    return base64(compute()) == *expected ? ChecksumVerdict::kMatches : ChecksumVerdict::kDiffers;
  };
  auto verdict = check("x-amz-checksum-crc32c", [&] { return big_endian(crc32c(body)); });
  if (verdict == ChecksumVerdict::kAbsent)
    verdict = check("x-amz-checksum-crc64nvme", [&] { return big_endian(crc64nvme(body)); });
  if (verdict == ChecksumVerdict::kAbsent)
    verdict = check("x-amz-checksum-crc32", [&] { return big_endian(crc32(body)); });
  if (verdict == ChecksumVerdict::kAbsent)
    verdict = check("x-amz-checksum-sha256", [&] { return digest(EVP_sha256(), body); });
  if (verdict == ChecksumVerdict::kAbsent)
    verdict = check("x-amz-checksum-sha1", [&] { return digest(EVP_sha1(), body); });
  return verdict;
}

bool looks_like_md5(std::string_view etag) {
  return etag.size() == 32 && etag.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

std::optional<std::string> md5_hex(std::span<const std::byte> bytes) {
  const std::string md5 = digest(EVP_md5(), bytes);
  if (md5.empty()) return std::nullopt;
  std::string result;
  for (const char c : md5) {
    result += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    result += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
  }
  return result;
}

}  // namespace alnair
