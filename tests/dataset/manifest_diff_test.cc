#include "dataset/manifest/diff.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "dataset/manifest_support.h"

namespace alnair {
namespace {

using testing::random_listing;

std::shared_ptr<const Manifest> manifest_of(const std::vector<ObjectInfo>& objects) {
  return Manifest::decode(Manifest::encode(objects), "");
}

TEST(ManifestDiff, CountsWhatAMapWouldCount) {
  std::mt19937_64 random(17);
  for (int round = 0; round < 40; ++round) {
    const std::vector<ObjectInfo> before = random_listing(random, random() % (round == 0 ? 5000 : 300));
    std::vector<ObjectInfo> after;
    for (const ObjectInfo& object : before) {
      if (random() % 5 == 0) continue;
      after.push_back(object);
      if (random() % 5 == 0) after.back().size += 1;
      if (random() % 5 == 0) after.back().last_modified_ms += 1000;  // matters without an ETag only
    }
    if (round % 7 == 0) after.clear();
    for (ObjectInfo& object : random_listing(random, random() % 100)) after.push_back(std::move(object));

    std::map<std::string, std::pair<std::uint64_t, ObjectInfo>> old;
    const auto first = manifest_of(before), second = manifest_of(after);
    for (std::uint64_t i = 0; i < first->size(); ++i) old[first->key(i)] = {i, first->object(i)};
    ManifestDiff expected;
    std::map<std::uint64_t, std::uint64_t> expected_pairs;
    for (std::uint64_t i = 0; i < second->size(); ++i) {
      const auto found = old.find(second->key(i));
      if (found == old.end()) {
        ++expected.added;
      } else if (found->second.second.same_version(second->object(i))) {
        ++expected.unchanged;
        expected_pairs[found->second.first] = i;
      } else {
        ++expected.changed;
      }
    }
    expected.removed = first->size() - expected.unchanged - expected.changed;

    std::map<std::uint64_t, std::uint64_t> pairs;
    const ManifestDiff diff = diff_manifests(*first, *second, [&](auto a, auto b) { pairs[a] = b; });
    EXPECT_EQ(diff.added, expected.added);
    EXPECT_EQ(diff.changed, expected.changed);
    EXPECT_EQ(diff.removed, expected.removed);
    EXPECT_EQ(diff.unchanged, expected.unchanged);
    EXPECT_EQ(pairs, expected_pairs);
  }
}

TEST(ManifestDiff, AManifestDoesNotDifferFromItself) {
  std::mt19937_64 random(18);
  const auto manifest = manifest_of(random_listing(random, 3000));
  const ManifestDiff diff = diff_manifests(*manifest, *manifest);
  EXPECT_EQ(diff.unchanged, 3000u);
  EXPECT_EQ(diff.added + diff.changed + diff.removed, 0u);
}

}  // namespace
}  // namespace alnair
