#include "alnair/dataset/manifest.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <random>

#include "alnair/core/error.h"
#include "dataset/manifest_support.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using testing::expect_holds;
using testing::object_named;
using testing::random_listing;
using testing::TemporaryDirectory;

std::shared_ptr<const Manifest> manifest_of(const std::vector<ObjectInfo>& objects) {
  return Manifest::decode(Manifest::encode(objects), "");
}

TEST(Manifest, KeepsWhatTheListingSaid) {
  std::vector<ObjectInfo> objects = {
      {"b/2.jpg", 110'000, "d41d8cd98f00b204e9800998ecf8427e", 1'700'000'000'000, false},
      {"b/10.jpg", 5, "d41d8cd98f00b204e9800998ecf8427e-12", 1'700'000'001'000, true},
      {"a", 0, "", 1'700'000'000'123, false},
      {"z", std::numeric_limits<std::uint64_t>::max() >> 2, "W/\"odd\"", 0, false},
  };
  const auto manifest = manifest_of(objects);
  expect_holds(*manifest, objects);
  EXPECT_EQ(manifest->key(0), "a");
  EXPECT_EQ(manifest->object(1).etag, "d41d8cd98f00b204e9800998ecf8427e-12");
}

TEST(Manifest, OfNothingIsEmpty) {
  const auto manifest = manifest_of({});
  EXPECT_EQ(manifest->size(), 0u);
  EXPECT_EQ(manifest->total_bytes(), 0u);
  EXPECT_EQ(manifest->find("a"), std::nullopt);
  EXPECT_EQ(manifest->find(""), std::nullopt);
  EXPECT_TRUE(manifest->objects(0, 0).empty());
  EXPECT_THROW((void)manifest->key(0), std::out_of_range);
}

TEST(Manifest, RefusesIndicesBeyondItsEnd) {
  const auto manifest = manifest_of({object_named("a"), object_named("b")});
  EXPECT_THROW((void)manifest->key(2), std::out_of_range);
  EXPECT_THROW((void)manifest->object(2), std::out_of_range);
  EXPECT_THROW((void)manifest->object_size(std::numeric_limits<std::uint64_t>::max()), std::out_of_range);
  EXPECT_THROW((void)manifest->objects(1, 2), std::out_of_range);
  EXPECT_THROW((void)manifest->objects(3, 0), std::out_of_range);
  EXPECT_THROW((void)manifest->objects(1, std::numeric_limits<std::uint64_t>::max()), std::out_of_range);
}

TEST(Manifest, VersionNamesTheListWhateverItsOrder) {
  std::mt19937_64 random(1);
  std::vector<ObjectInfo> objects = random_listing(random, 300);
  const auto first = manifest_of(objects);
  std::ranges::shuffle(objects, random);
  EXPECT_EQ(manifest_of(objects)->version(), first->version());
  EXPECT_EQ(first->version().size(), 64u);

  for (auto change : std::initializer_list<std::function<void(ObjectInfo&)>>{
           [](ObjectInfo& o) { o.size += 1; }, [](ObjectInfo& o) { o.etag += "x"; },
           [](ObjectInfo& o) { o.key += "x"; }, [](ObjectInfo& o) { o.archived = !o.archived; },
           [](ObjectInfo& o) { o.last_modified_ms += 1; }}) {
    auto changed = objects;
    change(changed[17]);
    EXPECT_NE(manifest_of(changed)->version(), first->version());
  }
}

TEST(Manifest, KeepsTheNewestOfEqualKeys) {
  std::vector<ObjectInfo> objects = {object_named("a"), object_named("b"), object_named("b"),
                                     object_named("b")};
  objects[1].last_modified_ms = 5;
  objects[2].last_modified_ms = 9;
  objects[2].size = 99;
  objects[3].last_modified_ms = 7;
  const auto manifest = manifest_of(objects);
  ASSERT_EQ(manifest->size(), 2u);
  EXPECT_EQ(manifest->object_size(1), 99u);
}

TEST(Manifest, KeepsKeysOfAnyBytes) {
  std::string all(256, '\0');
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(i);
  std::vector<ObjectInfo> objects = {
      object_named(all),
      object_named(std::string(1024, '\xff')),
      object_named(std::string(1023, '\xff')),
      object_named("//"),
      object_named("a/../b"),
      object_named("a b+%41'\"ü"),
      object_named(""),
      object_named(std::string("\0", 1)),
      object_named(std::string("\0\0", 2)),
      object_named("\x7f"),
      object_named("\x80"),
      object_named(std::string(200, 'k') + "1"),
      object_named(std::string(200, 'k') + "2"),
  };
  const auto manifest = manifest_of(objects);
  expect_holds(*manifest, objects);
  EXPECT_LT(*manifest->find("\x7f"), *manifest->find("\x80"));  // bytes, not signed chars
}

TEST(Manifest, KeepsEtagsOfAnyForm) {
  std::vector<ObjectInfo> objects;
  int i = 0;
  for (const char* etag :
       {"", "0123456789abcdef0123456789abcdef", "0123456789ABCDEF0123456789abcdef",
        "0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdef0",
        "0123456789abcdef0123456789abcdef-", "0123456789abcdef0123456789abcdef-0",
        "0123456789abcdef0123456789abcdef-01", "0123456789abcdef0123456789abcdef-1",
        "0123456789abcdef0123456789abcdef-10000", "0123456789abcdef0123456789abcdef-4294967295",
        "0123456789abcdef0123456789abcdef-4294967296", "0123456789abcdef0123456789abcdef-1x",
        "0123456789abcdef0123456789abcdef-+1", "0123456789abcdef0123456789abcdeg", "x"}) {
    objects.push_back(object_named("key" + std::to_string(i++)));
    objects.back().etag = etag;
    if (i % 3 == 0) expect_holds(*manifest_of(objects), objects);  // widths differ as forms appear
  }
  expect_holds(*manifest_of(objects), objects);
}

TEST(Manifest, KeepsTimesOfAnySize) {
  constexpr auto kMin = std::numeric_limits<std::int64_t>::min(),
                 kMax = std::numeric_limits<std::int64_t>::max();
  for (const std::vector<std::int64_t>& times : std::vector<std::vector<std::int64_t>>{
           {kMin, kMax}, {0, 0}, {-1, 1}, {1000, 2000, 501'000}, {kMax, kMax - 1000}}) {
    std::vector<ObjectInfo> objects;
    for (const std::int64_t time : times) {
      objects.push_back(object_named("key" + std::to_string(objects.size())));
      objects.back().last_modified_ms = time;
    }
    expect_holds(*manifest_of(objects), objects);
  }
}

TEST(Manifest, HoldsAnyRandomListing) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 60; ++round) {
    const std::vector<ObjectInfo> objects = random_listing(random, random() % 120);
    const auto manifest = manifest_of(objects);
    expect_holds(*manifest, objects);

    std::map<std::string, ObjectInfo> oracle;
    for (const ObjectInfo& object : objects) oracle[object.key] = object;
    for (int i = 0; i < 30; ++i) {  // keys that are near ones, mostly absent
      std::string key = objects.empty() ? "x" : objects[random() % objects.size()].key;
      if (random() % 2 == 0)
        key += static_cast<char>(random());
      else if (!key.empty())
        key.pop_back();
      EXPECT_EQ(manifest->find(key).has_value(), oracle.contains(key));
    }
  }
}

}  // namespace
}  // namespace alnair
