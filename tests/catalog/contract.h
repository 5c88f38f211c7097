// What every catalog promises. A backend instantiates the suite with a Backend type: default-constructed for
// each test with an empty place for one catalog, and `std::unique_ptr<Catalog> open()`, which may be called
// many times, by forked children too.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <thread>

#include "alnair/catalog/catalog.h"
#include "alnair/core/error.h"
#include "support/in_child.h"

namespace alnair::testing {

inline ChunkId id_of(std::uint64_t number) {
  const ContentHash hash = content_hash(std::as_bytes(std::span(&number, 1)));
  ChunkId id;
  std::copy_n(hash.bytes.begin(), id.bytes.size(), id.bytes.begin());
  return id;
}

// `salt` tells apart hashes of one id.
inline ContentHash hash_of(std::uint64_t number, std::uint64_t salt = 1) {
  const std::uint64_t words[] = {number, salt};
  return content_hash(std::as_bytes(std::span(words)));
}

inline std::vector<std::byte> some_blob(std::uint64_t seed, std::size_t size) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> blob(size);
  for (auto& byte : blob) byte = static_cast<std::byte>(random());
  return blob;
}

inline ManifestRecord record_of(std::string dataset, std::uint64_t version,
                                std::int64_t registered_ms = 1'700'000'000'000) {
  return {std::move(dataset), hash_of(version, 2).hex(), registered_ms, version * 10, version * 1000};
}

inline bool equal(const ManifestRecord& a, const ManifestRecord& b) {
  return a.dataset == b.dataset && a.version == b.version && a.registered_ms == b.registered_ms &&
         a.objects == b.objects && a.bytes == b.bytes;
}

inline void record_numbers(Catalog& catalog, std::uint64_t begin, std::uint64_t end, std::uint64_t salt = 1) {
  std::vector<HashRecord> records;
  for (std::uint64_t i = begin; i < end; ++i) records.push_back({id_of(i), hash_of(i, salt)});
  catalog.record_hashes(records);
}

// Of the numbers [begin, end), how many are known; checks that what is known is right.
inline std::uint64_t count_known(Catalog& catalog, std::uint64_t begin, std::uint64_t end,
                                 std::uint64_t salt = 1) {
  std::vector<ChunkId> ids;
  for (std::uint64_t i = begin; i < end; ++i) ids.push_back(id_of(i));
  std::vector<std::optional<ContentHash>> hashes(ids.size());
  catalog.find_hashes(ids, hashes);
  std::uint64_t known = 0;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    if (!hashes[i]) continue;
    EXPECT_EQ(*hashes[i], hash_of(begin + i, salt));
    ++known;
  }
  return known;
}

template <typename Backend>
class CatalogContract : public ::testing::Test {
 protected:
  std::unique_ptr<Catalog> open() { return backend_.open(); }
  Backend backend_;
};
TYPED_TEST_SUITE_P(CatalogContract);

TYPED_TEST_P(CatalogContract, ANewCatalogKnowsNothing) {
  const auto catalog = this->open();
  EXPECT_FALSE(catalog->newest_manifest("s3://bucket").has_value());
  EXPECT_FALSE(catalog->manifest_blob(hash_of(1).hex()).has_value());
  EXPECT_TRUE(catalog->manifests().empty());
  EXPECT_EQ(count_known(*catalog, 0, 10), 0u);
  catalog->flush();
}

TYPED_TEST_P(CatalogContract, KeepsManifestsAcrossReopening) {
  const ManifestRecord record = record_of("s3://bucket train/", 1);
  const auto blob = some_blob(1, 100'000);
  this->open()->put_manifest(record, blob);
  const auto catalog = this->open();
  const auto newest = catalog->newest_manifest("s3://bucket train/");
  ASSERT_TRUE(newest.has_value());
  EXPECT_TRUE(equal(*newest, record));
  EXPECT_EQ(catalog->manifest_blob(record.version), blob);
  EXPECT_FALSE(catalog->newest_manifest("s3://bucket train").has_value());
  EXPECT_FALSE(catalog->manifest_blob(hash_of(9).hex()).has_value());
}

TYPED_TEST_P(CatalogContract, TheManifestPutLastIsTheNewestWhateverTheClockSays) {
  const auto catalog = this->open();
  catalog->put_manifest(record_of("d", 1, 500), some_blob(1, 10));
  catalog->put_manifest(record_of("d", 2, 400), some_blob(2, 10));
  EXPECT_EQ(catalog->newest_manifest("d")->version, record_of("d", 2).version);
  catalog->put_manifest(record_of("d", 1, 600), some_blob(1, 10));
  EXPECT_EQ(catalog->newest_manifest("d")->version, record_of("d", 1).version);
  EXPECT_EQ(catalog->newest_manifest("d")->registered_ms, 600);
  EXPECT_EQ(catalog->manifests().size(), 2u);
  EXPECT_EQ(catalog->manifest_blob(record_of("d", 2).version), some_blob(2, 10));
}

TYPED_TEST_P(CatalogContract, DatasetsMayShareAVersionAndBeNamedByAnyBytes) {
  const auto catalog = this->open();
  const std::string odd("a\0b\xff'\"\n;--", 11);
  catalog->put_manifest(record_of(odd, 1), some_blob(1, 10));
  catalog->put_manifest(record_of("", 1), some_blob(1, 10));
  catalog->put_manifest(record_of(std::string(5000, 'x'), 1), some_blob(1, 10));
  for (const std::string& dataset : {odd, std::string(), std::string(5000, 'x')})
    EXPECT_EQ(catalog->newest_manifest(dataset)->version, record_of("", 1).version);
  EXPECT_FALSE(catalog->newest_manifest("a").has_value());
}

TYPED_TEST_P(CatalogContract, EmptyAndLargeBlobsAreKept) {
  const auto catalog = this->open();
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{5} << 20}) {
    const ManifestRecord record = record_of("d", size + 1);
    catalog->put_manifest(record, some_blob(size, size));
    EXPECT_EQ(catalog->manifest_blob(record.version), some_blob(size, size));
  }
}

TYPED_TEST_P(CatalogContract, OldVersionsOfADatasetAreForgottenInTime) {
  const auto catalog = this->open();
  catalog->put_manifest(record_of("other", 1000), some_blob(1000, 10));
  for (std::uint64_t i = 1; i <= 40; ++i) catalog->put_manifest(record_of("d", i), some_blob(i, 10));
  EXPECT_EQ(catalog->newest_manifest("d")->version, record_of("d", 40).version);
  EXPECT_TRUE(catalog->manifest_blob(record_of("d", 40).version).has_value());
  EXPECT_TRUE(catalog->manifest_blob(record_of("d", 39).version).has_value());
  EXPECT_LT(catalog->manifests().size(), 20u);
  EXPECT_FALSE(catalog->manifest_blob(record_of("d", 1).version).has_value());
  EXPECT_TRUE(catalog->manifest_blob(record_of("other", 1000).version).has_value());
}

TYPED_TEST_P(CatalogContract, AVersionThatIsNoneIsRefused) {
  const auto catalog = this->open();
  for (const char* version : {"", "../../etc/passwd", "abc", "x"}) {
    ManifestRecord record = record_of("d", 1);
    record.version = version;
    EXPECT_THROW(catalog->put_manifest(record, some_blob(1, 1)), CacheError);
    EXPECT_FALSE(catalog->manifest_blob(version).has_value());
  }
}

TYPED_TEST_P(CatalogContract, HashesAreKnownAfterFlush) {
  const auto catalog = this->open();
  record_numbers(*catalog, 0, 1000);
  catalog->flush();
  EXPECT_EQ(count_known(*catalog, 0, 1000), 1000u);
  EXPECT_EQ(count_known(*catalog, 1000, 1100), 0u);
  EXPECT_EQ(count_known(*this->open(), 0, 1000), 1000u);
}

TYPED_TEST_P(CatalogContract, HashesAreKnownAfterTheCatalogIsClosed) {
  record_numbers(*this->open(), 0, 500);
  EXPECT_EQ(count_known(*this->open(), 0, 500), 500u);
}

TYPED_TEST_P(CatalogContract, TheHashRecordedLastHolds) {
  const auto catalog = this->open();
  record_numbers(*catalog, 0, 100, 1);
  record_numbers(*catalog, 0, 100, 2);
  catalog->flush();
  EXPECT_EQ(count_known(*catalog, 0, 100, 2), 100u);
  record_numbers(*catalog, 0, 100, 3);
  catalog->flush();
  EXPECT_EQ(count_known(*catalog, 0, 100, 3), 100u);
}

TYPED_TEST_P(CatalogContract, WhatIsUnknownIsLeftAlone) {
  const auto catalog = this->open();
  record_numbers(*catalog, 0, 1);
  catalog->flush();
  const std::vector<ChunkId> ids = {id_of(0), id_of(1), id_of(0)};
  std::vector<std::optional<ContentHash>> hashes = {std::nullopt, hash_of(77), hash_of(78)};
  catalog->find_hashes(ids, hashes);
  EXPECT_EQ(hashes[0], hash_of(0));
  EXPECT_EQ(hashes[1], hash_of(77));
  EXPECT_EQ(hashes[2], hash_of(0));
  catalog->find_hashes({}, {});
  catalog->record_hashes({});
}

TYPED_TEST_P(CatalogContract, ManyThreadsUseItAtOnce) {
  const auto catalog = this->open();
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 20; ++i) {
        record_numbers(*catalog, t * 1000 + i * 50, t * 1000 + (i + 1) * 50);
        count_known(*catalog, 0, 200);
        if (i % 10 == 0) catalog->put_manifest(record_of("d" + std::to_string(t), i + 1), some_blob(i, 1000));
        if (i % 7 == 0) catalog->flush();
      }
    });
  for (auto& thread : threads) thread.join();
  catalog->flush();
  EXPECT_EQ(count_known(*catalog, 0, 4000), 4000u);
  EXPECT_EQ(catalog->manifests().size(), 8u);
}

TYPED_TEST_P(CatalogContract, ManyProcessesUseItAtOnce) {
  std::vector<pid_t> children;
  for (std::uint64_t t = 0; t < 4; ++t) {
    const pid_t child = fork();
    if (child == 0) {
      {
        const auto catalog = this->open();
        for (std::uint64_t i = 0; i < 10; ++i) {
          record_numbers(*catalog, t * 1000 + i * 100, t * 1000 + (i + 1) * 100);
          catalog->flush();
          catalog->put_manifest(record_of("d" + std::to_string(t), i % 2 + 1), some_blob(i % 2, 1000));
        }
        if (count_known(*catalog, t * 1000, t * 1000 + 1000) != 1000) _exit(1);
      }
      _exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  const auto catalog = this->open();
  EXPECT_EQ(count_known(*catalog, 0, 4000), 4000u);
  EXPECT_EQ(catalog->manifests().size(), 8u);
}

TYPED_TEST_P(CatalogContract, AForkedChildUsesTheCatalogThatItInherited) {
  const auto catalog = this->open();
  record_numbers(*catalog, 0, 100);
  catalog->flush();
  std::atomic<bool> stop{false};
  std::thread busy([&] {  // forks find the catalog in use
    for (std::uint64_t i = 10'000; !stop; i += 10) {
      record_numbers(*catalog, i, i + 10);
      catalog->flush();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  for (std::uint64_t round = 1; round <= 10; ++round) {
    EXPECT_TRUE(in_child([&] {
      if (count_known(*catalog, 0, 100) != 100) return false;
      record_numbers(*catalog, round * 100, round * 100 + 100);
      catalog->flush();
      catalog->put_manifest(record_of("child", round), some_blob(round, 100));
      return true;
    }));
    EXPECT_EQ(count_known(*catalog, round * 100, round * 100 + 100), 100u);
    EXPECT_EQ(catalog->newest_manifest("child")->version, record_of("child", round).version);
  }
  stop = true;
  busy.join();
}

REGISTER_TYPED_TEST_SUITE_P(CatalogContract, ANewCatalogKnowsNothing, KeepsManifestsAcrossReopening,
                            TheManifestPutLastIsTheNewestWhateverTheClockSays,
                            DatasetsMayShareAVersionAndBeNamedByAnyBytes, EmptyAndLargeBlobsAreKept,
                            OldVersionsOfADatasetAreForgottenInTime, AVersionThatIsNoneIsRefused,
                            HashesAreKnownAfterFlush, HashesAreKnownAfterTheCatalogIsClosed,
                            TheHashRecordedLastHolds, WhatIsUnknownIsLeftAlone, ManyThreadsUseItAtOnce,
                            ManyProcessesUseItAtOnce, AForkedChildUsesTheCatalogThatItInherited);

}  // namespace alnair::testing
