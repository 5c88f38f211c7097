// Listings for the tests of manifests.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "alnair/dataset/manifest.h"

namespace alnair::testing {

inline ObjectInfo object_named(std::string key) {
  return {std::move(key), 7, "0123456789abcdef0123456789abcdef", 1'700'000'000'000, false};
}

inline std::string random_hex(std::mt19937_64& random, std::size_t length) {
  std::string text;
  for (std::size_t i = 0; i < length; ++i) text += "0123456789abcdef"[random() % 16];
  return text;
}

// `count` objects with distinct keys of any bytes, long shared prefixes, and every kind of size, ETag and
// time.
inline std::vector<ObjectInfo> random_listing(std::mt19937_64& random, std::size_t count) {
  std::map<std::string, ObjectInfo> objects;
  const bool odd_times = random() % 2 == 0;
  while (objects.size() < count) {
    ObjectInfo object;
    if (!objects.empty() && random() % 4 != 0) {
      object.key = std::next(objects.begin(), static_cast<long>(random() % objects.size()))->first;
      object.key.resize(random() % (object.key.size() + 1));
    }
    for (std::size_t more = random() % (random() % 50 == 0 ? 900 : 12); more > 0 && object.key.size() < 1024;
         --more)
      object.key += static_cast<char>(random() % 3 == 0 ? random() : 'a' + random() % 3);
    object.size = random() >> random() % 64;
    object.last_modified_ms =
        static_cast<std::int64_t>(1'700'000'000'000 + random() % 100'000 * (odd_times ? 1 : 1000));
    object.archived = random() % 8 == 0;
    switch (random() % 5) {
      case 0:
        break;
      case 1:
        object.etag = random_hex(random, random() % 70);
        break;
      case 2:
        object.etag = random_hex(random, 32) + "-" + std::to_string(random() % 10'000);
        break;
      default:
        object.etag = random_hex(random, 32);
    }
    const std::string key = object.key;
    objects.emplace(key, std::move(object));
  }
  std::vector<ObjectInfo> listing;
  for (auto& [key, object] : objects) listing.push_back(std::move(object));
  return listing;
}

inline bool equal(const ObjectInfo& a, const ObjectInfo& b) {
  return a.key == b.key && a.size == b.size && a.etag == b.etag && a.last_modified_ms == b.last_modified_ms &&
         a.archived == b.archived;
}

// The manifest holds exactly these objects (distinct keys, any order), by every way of asking.
inline void expect_holds(const Manifest& manifest, const std::vector<ObjectInfo>& objects) {
  std::map<std::string, ObjectInfo> oracle;
  for (const ObjectInfo& object : objects) oracle[object.key] = object;
  ASSERT_EQ(manifest.size(), oracle.size());
  const std::vector<ObjectInfo> all = manifest.objects(0, manifest.size());
  std::uint64_t index = 0, total = 0;
  for (const auto& [key, object] : oracle) {
    EXPECT_EQ(manifest.key(index), key);
    EXPECT_TRUE(equal(manifest.object(index), object)) << key;
    EXPECT_TRUE(equal(all[index], object)) << key;
    EXPECT_EQ(manifest.object_size(index), object.size);
    EXPECT_EQ(manifest.find(key), index);
    total += object.size;
    ++index;
  }
  EXPECT_EQ(manifest.total_bytes(), total);
  if (index > 3) {
    const auto some = manifest.objects(index / 3, index / 2);
    for (std::size_t i = 0; i < some.size(); ++i) EXPECT_TRUE(equal(some[i], all[index / 3 + i]));
  }
}

}  // namespace alnair::testing
