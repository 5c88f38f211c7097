#include "alnair/core/hash.h"

#include <gtest/gtest.h>

#include <string>

namespace alnair {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

TEST(ContentHash, IsBlake3) {  // vectors from the BLAKE3 specification's repository
  EXPECT_EQ(content_hash({}).hex(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
  std::string input(1024, '\0');
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = static_cast<char>(i % 251);
  EXPECT_EQ(content_hash(bytes_of(input)).hex(), "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7");
}

TEST(ContentHash, HexRoundTrips) {
  const ContentHash hash = content_hash(bytes_of("abc"));
  EXPECT_EQ(ContentHash::from_hex(hash.hex()), hash);
  EXPECT_EQ(ContentHash::from_hex("abc"), std::nullopt);
  EXPECT_EQ(ContentHash::from_hex(std::string(64, 'g')), std::nullopt);
}

TEST(Checksum, IsXxh3WithASeedAtEveryLength) {  // vectors of the reference implementation's scalar code
  std::string input(110'000, '\0');
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = static_cast<char>(i % 251);
  EXPECT_EQ(checksum64(bytes_of("")), 0x2d06800538d394c2u);
  EXPECT_EQ(checksum64(bytes_of(input).first(100), 7), 0xf99b79905a88dc51u);
  EXPECT_EQ(checksum64(bytes_of(input).first(241), 7), 0xd8f2ad256b03a316u);
  EXPECT_EQ(checksum64(bytes_of(input).first(4096), 7), 0x83cc3ece121c17c5u);
  EXPECT_EQ(checksum64(bytes_of(input).first(32'767), 7), 0x49b1f09968a23451u);
  EXPECT_EQ(checksum64(bytes_of(input).first(32'768), 7), 0x2b11d9b32705698fu);
  EXPECT_EQ(checksum64(bytes_of(input), 7), 0xae45cc581af7d774u);
}

TEST(Hasher, PiecesEqualTheWhole) {
  Hasher hasher;
  hasher.update(bytes_of("hello "));
  hasher.update(bytes_of("world"));
  EXPECT_EQ(hasher.finish(), content_hash(bytes_of("hello world")));
}

TEST(Hasher, FieldBoundariesCount) {
  Hasher first, second;
  first.update_field("ab");
  first.update_field("c");
  second.update_field("a");
  second.update_field("bc");
  EXPECT_NE(first.finish(), second.finish());
}

}  // namespace
}  // namespace alnair
