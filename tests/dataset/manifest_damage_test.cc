// Whatever happens to the bytes of a manifest is noticed, and whatever they are, reading them is safe.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "alnair/core/error.h"
#include "core/log.h"
#include "dataset/manifest/encoder.h"
#include "dataset/manifest/reader.h"
#include "dataset/manifest_support.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using testing::expect_holds;
using testing::object_named;
using testing::random_listing;
using testing::TemporaryDirectory;
using Bytes = std::vector<std::byte>;

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  return {bytes.begin(), bytes.end()};
}

void write_file(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
}

class ManifestDamage : public ::testing::Test {
 protected:
  ManifestDamage() { set_log_level(LogLevel::kOff); }
  ~ManifestDamage() override { set_log_level(LogLevel::kWarning); }

  std::mt19937_64 random_{3};
  const std::vector<ObjectInfo> objects_ = random_listing(random_, 200);
  const Bytes blob_ = Manifest::encode(objects_);
};

TEST_F(ManifestDamage, ATruncatedBlobIsRefused) {
  for (std::size_t size = 0; size < blob_.size(); size += size < 100 ? 1 : 37)
    EXPECT_THROW(Manifest::decode(std::span(blob_).first(size), ""), CacheError) << size;
}

TEST_F(ManifestDamage, ABlobWithMoreBehindItIsRefused) {
  Bytes longer = blob_;
  longer.push_back(std::byte{0});
  EXPECT_THROW(Manifest::decode(longer, ""), CacheError);
}

TEST_F(ManifestDamage, EveryFlippedBitOfABlobIsRefused) {
  for (std::size_t i = 0; i < blob_.size(); i += i < 100 ? 1 : 13) {
    Bytes flipped = blob_;
    flipped[i] ^= std::byte{1} << random_() % 8;
    EXPECT_THROW(Manifest::decode(flipped, ""), CacheError) << i;
  }
}

TEST_F(ManifestDamage, ABlobOfANewerFormatSaysSo) {
  Bytes newer = blob_;
  newer[8] = std::byte{2};
  try {
    Manifest::decode(newer, "");
    FAIL();
  } catch (const CacheError& error) {
    EXPECT_NE(std::string(error.what()).find("format 2"), std::string::npos) << error.what();
  }
}

TEST_F(ManifestDamage, AWellSealedBlobOfOtherBytesIsRefused) {
  // The checksum fits, the version does not.
  Bytes other = manifest::compress_body(manifest::encode_body({}));
  auto envelope = manifest::read_envelope(other);
  envelope.version.bytes[0] ^= 1;
  manifest::write_envelope(other.data(), envelope,
                           std::span<const std::byte>(other).subspan(manifest::kEnvelopeSize));
  EXPECT_THROW(Manifest::decode(other, ""), CacheError);
  // A size that no machine has.
  envelope.version.bytes[0] ^= 1;
  for (const std::uint64_t size :
       {std::uint64_t{1} << 63, std::uint64_t{1} << 60, std::uint64_t{0}, std::uint64_t{63}}) {
    envelope.body_size = size;
    manifest::write_envelope(other.data(), envelope,
                             std::span<const std::byte>(other).subspan(manifest::kEnvelopeSize));
    EXPECT_THROW(Manifest::decode(other, ""), CacheError) << size;
  }
}

TEST_F(ManifestDamage, AnyBodyIsReadSafely) {
  const Bytes body = manifest::encode_body(objects_);
  for (int round = 0; round < 3000; ++round) {
    Bytes damaged = body;
    for (std::uint64_t flips = 1 + random_() % 8; flips > 0; --flips)
      damaged[random_() % (flips % 2 == 0 ? manifest::kLayoutSize : damaged.size())] =
          static_cast<std::byte>(random_());
    if (random_() % 4 == 0) damaged.resize(random_() % damaged.size());
    const Bytes exact(damaged.begin(), damaged.end());  // so that a sanitizer sees an access beyond the end
    try {
      const manifest::Reader reader(exact);
      for (std::uint64_t i = 0; i < reader.size(); i += 1 + reader.size() / 50) {
        try {
          (void)reader.find(reader.key(i));
          (void)reader.object(i);
        } catch (const CacheError&) {
        }
      }
      (void)reader.objects(0, reader.size());
    } catch (const CacheError&) {
    }
  }
}

class SharedManifest : public ManifestDamage {
 protected:
  std::string only_file() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
      names.push_back(entry.path());
    EXPECT_EQ(names.size(), 1u);
    return names.empty() ? "" : names[0];
  }

  TemporaryDirectory directory_{"/dev/shm"};
};

TEST_F(SharedManifest, IsOpenedWithoutItsBlob) {
  const auto first = Manifest::decode(blob_, directory_.path());
  expect_holds(*first, objects_);
  const auto second = Manifest::open_shared(first->version(), directory_.path());
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->version(), first->version());
  expect_holds(*second, objects_);
}

TEST_F(SharedManifest, IsAbsentUntilSomeoneDecodesIt) {
  const std::string version = Manifest::decode(blob_, "")->version();
  EXPECT_EQ(Manifest::open_shared(version, directory_.path()), nullptr);
  EXPECT_EQ(Manifest::open_shared(version, directory_ / "missing"), nullptr);
  EXPECT_EQ(Manifest::open_shared(version, ""), nullptr);
}

TEST_F(SharedManifest, DamagedFilesAreReplaced) {
  const std::string version = Manifest::decode(blob_, directory_.path())->version();
  const std::string path = only_file();
  const Bytes good = read_file(path);
  for (int round = 0; round < 200; ++round) {
    Bytes damaged = good;
    if (round % 2 == 0)
      damaged[random_() % damaged.size()] ^= std::byte{1} << random_() % 8;
    else
      damaged.resize(random_() % damaged.size());
    std::filesystem::remove(path);
    write_file(path, damaged);
    EXPECT_EQ(Manifest::open_shared(version, directory_.path()), nullptr);
    expect_holds(*Manifest::decode(blob_, directory_.path()), objects_);
    EXPECT_EQ(read_file(path), good);
  }
}

TEST_F(SharedManifest, AFileUnderAnotherVersionsNameIsReplaced) {
  const std::string version = Manifest::decode(blob_, directory_.path())->version();
  const std::string path = only_file();
  const Bytes other = Manifest::encode({object_named("other")});
  TemporaryDirectory elsewhere("/dev/shm");
  const std::string other_version = Manifest::decode(other, elsewhere.path())->version();
  std::filesystem::rename(elsewhere / ("manifest-" + other_version), path);
  EXPECT_EQ(Manifest::open_shared(version, directory_.path()), nullptr);
}

TEST_F(SharedManifest, WhatCannotBeOneIsReplaced) {
  const std::string version = Manifest::decode(blob_, directory_.path())->version();
  const std::string path = only_file();
  const Bytes good = read_file(path);
  const auto expect_replaced = [&] {
    EXPECT_EQ(Manifest::open_shared(version, directory_.path()), nullptr);
    expect_holds(*Manifest::decode(blob_, directory_.path()), objects_);
    EXPECT_EQ(read_file(path), good);
    std::filesystem::remove(path);
  };
  TemporaryDirectory elsewhere("/dev/shm");
  std::filesystem::rename(path, elsewhere / "file");
  std::filesystem::create_symlink(elsewhere / "file", path);
  expect_replaced();
  write_file(path, {});
  expect_replaced();
  write_file(path, {});
  EXPECT_EQ(truncate(path.c_str(), static_cast<long>(good.size())), 0);  // a hole
  expect_replaced();
  EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
  expect_replaced();
}

TEST_F(SharedManifest, StaysReadableWhenItsFileIsRemoved) {
  const auto manifest = Manifest::decode(blob_, directory_.path());
  std::filesystem::remove_all(directory_.path());
  expect_holds(*manifest, objects_);
  expect_holds(*Manifest::decode(blob_, directory_.path()), objects_);  // no directory: private memory
}

TEST_F(SharedManifest, TheDirectoryKeepsABoundedNumberOfThem) {
  for (int i = 0; i < 40; ++i)
    Manifest::decode(Manifest::encode({object_named(std::to_string(i))}), directory_.path());
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_.path())) ++files;
  EXPECT_LE(files, 16u);
  EXPECT_GE(files, 8u);
}

}  // namespace
}  // namespace alnair
