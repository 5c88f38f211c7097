// The checksums by which S3 lets a body be verified: x-amz-checksum-* headers, and ETags that are an MD5.
// Pure; thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "http/headers.h"

namespace alnair {

// Continue from `crc` of the bytes before. All are reflected, with inverted input and output.
std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t crc = 0);
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc = 0);
std::uint64_t crc64nvme(std::span<const std::byte> bytes, std::uint64_t crc = 0);

enum class ChecksumVerdict {
  kAbsent,  // no header that covers the whole body (checksums of multipart uploads cover parts)
  kMatches,
  kDiffers,
};

// Checks a whole object against the cheapest of the x-amz-checksum-* headers that are there.
ChecksumVerdict verify_checksum(const HttpHeaders& headers, std::span<const std::byte> body);

// Whether an ETag (without quotes) could be the MD5 of the object: 32 hex digits. Those of multipart uploads
// are not.
bool looks_like_md5(std::string_view etag);
// nullopt: this OpenSSL has no MD5 (FIPS mode).
std::optional<std::string> md5_hex(std::span<const std::byte> bytes);

}  // namespace alnair
