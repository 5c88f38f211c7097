#include "dataset/chunking.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "dataset/manifest_support.h"

namespace alnair {
namespace {

using testing::object_named;

std::shared_ptr<const Manifest> manifest_of_sizes(const std::vector<std::uint64_t>& sizes) {
  std::vector<ObjectInfo> objects;
  for (const std::uint64_t size : sizes) {
    objects.push_back(object_named(std::string(1, static_cast<char>('a' + objects.size() / 256)) +
                                   static_cast<char>(objects.size() % 256)));
    objects.back().size = size;
  }
  return Manifest::decode(Manifest::encode(objects), "");
}

TEST(Chunking, CutsAtMultiplesOfTheChunkSize) {
  const auto manifest = manifest_of_sizes({0, 1, 99, 100, 101, 200, 201});
  const Chunking chunking(*manifest, 100);
  std::vector<std::uint64_t> counts;
  for (std::uint64_t i = 0; i < manifest->size(); ++i)
    counts.push_back(chunking.chunks_of(manifest->object_size(i)));
  EXPECT_EQ(counts, (std::vector<std::uint64_t>{1, 1, 1, 1, 2, 2, 3}));
  EXPECT_EQ(chunking.chunks(), 11u);
  EXPECT_EQ(chunking.range(0, 0).length, 0u);
  EXPECT_EQ(chunking.range(201, 1).offset, 100u);
  EXPECT_EQ(chunking.range(201, 1).length, 100u);
  EXPECT_EQ(chunking.range(201, 2).length, 1u);
}

TEST(Chunking, NumbersChunksInOrderWithoutGaps) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 30; ++round) {
    std::vector<std::uint64_t> sizes(random() % 200);
    for (auto& size : sizes) size = random() % (round % 3 == 0 ? 100 : 1000);
    const auto manifest = manifest_of_sizes(sizes);
    const Chunking chunking(*manifest, 100);
    std::uint64_t expected = 0;
    for (std::uint64_t object = 0; object < manifest->size(); ++object) {
      std::uint64_t covered = 0;
      for (std::uint64_t chunk = 0; chunk < chunking.chunks_of(sizes[object]); ++chunk) {
        EXPECT_EQ(chunking.ordinal(object, chunk), expected++);
        const ChunkRange range = chunking.range(sizes[object], chunk);
        EXPECT_EQ(range.offset, covered);
        covered += range.length;
      }
      EXPECT_EQ(covered, sizes[object]);
    }
    EXPECT_EQ(chunking.chunks(), expected);
  }
}

TEST(ChunkNamer, NamesDependOnEverythingThatNamesBytes) {
  const ObjectInfo object{"key", 100, "etag", 5, false};
  const ChunkNamer namer("s3://bucket", 10);
  std::set<ChunkId> names = {namer.name(object, 0), namer.name(object, 1),
                             ChunkNamer("s3://bucket", 11).name(object, 0),
                             ChunkNamer("s3://bucke", 10).name(object, 0)};
  for (auto change : std::initializer_list<void (*)(ObjectInfo&)>{
           [](ObjectInfo& o) { o.key = "kez"; }, [](ObjectInfo& o) { o.size = 101; },
           [](ObjectInfo& o) { o.etag = "etah"; }, [](ObjectInfo& o) { o.etag = ""; },
           [](ObjectInfo& o) { o.etag = "", o.last_modified_ms = 6; },
           [](ObjectInfo& o) { o.key = "keye", o.etag = "tag"; }}) {
    ObjectInfo changed = object;
    change(changed);
    names.insert(namer.name(changed, 0));
  }
  EXPECT_EQ(names.size(), 10u);
}

TEST(ChunkNamer, TheTimeOfAnObjectWithAnEtagDoesNotMatter) {
  const ChunkNamer namer("s3://bucket", 10);
  EXPECT_EQ(namer.name({"key", 100, "etag", 5, false}, 0), namer.name({"key", 100, "etag", 6, true}, 0));
}

TEST(ChunkNamer, NamesStayTheSameAcrossVersionsOfTheLibrary) {
  EXPECT_EQ(ChunkNamer("s3://bucket", 4096).name({"train/1.jpg", 5000, "abc", 1, false}, 1).hex(),
            "47258494518786410aecd0998bc479f5");
}

}  // namespace
}  // namespace alnair
