// Whatever the tiers do, a sample is the object's bytes.
#include <gtest/gtest.h>

#include <random>

#include "cache/tiered/tiered_cache.h"
#include "support/chunk_origin.h"
#include "support/faulty_tier.h"
#include "support/map_source.h"
#include "support/map_tier.h"

namespace alnair {
namespace {

using testing::chunk;
using testing::FaultyTier;
using testing::MapSource;
using testing::MapTier;
using testing::Origin;
using testing::Results;

constexpr int kObjects = 40;
constexpr int kRounds = 200;

TEST(TieredFaults, EverySampleIsRightUnderEveryMixOfFaults) {
  std::mt19937_64 random(7);
  const auto probability = [&] {
    constexpr double kChoices[] = {0, 0, 0.3, 1};
    return kChoices[random() % 4];
  };
  for (int round = 0; round < kRounds; ++round) {
    const auto source = std::make_shared<MapSource>();
    for (int i = 0; i < kObjects; ++i) source->put(std::to_string(i), Origin::content(i));
    const auto origin = std::make_shared<Origin>(source);
    // Node memory answers before get() returns, so it is not delayed. A tier that hands out wrong bytes of the right
    // length breaks its contract (it checks them); a wrong length is noticed anyway.
    const auto memory =
        std::make_shared<FaultyTier>(std::make_shared<MapTier>("memory", random() % 2 == 0 ? 200 : 1 << 20), random());
    const auto disk = std::make_shared<FaultyTier>(std::make_shared<MapTier>("disk"), random());
    memory->set({.drop_get = probability(),
                 .shorten_get = probability(),
                 .refuse_put = probability(),
                 .lose_put = probability(),
                 .lie_contains = probability()});
    disk->set({.drop_get = probability(),
               .shorten_get = probability(),
               .delay_get = probability(),
               .refuse_put = probability(),
               .lose_put = probability(),
               .delay = std::chrono::milliseconds(1)});
    TieredCache::Options options;
    options.memory = memory;
    options.lower = {disk};
    options.fill_queue_bytes = random() % 2 == 0 ? 100 : 1 << 20;
    TieredCache cache(options);
    for (int batch = 0; batch < 3; ++batch) {
      std::vector<ChunkRead> chunks;
      for (int i = 0; i < kObjects; ++i) chunks.push_back(chunk(random() % kObjects));
      const auto results = std::make_shared<Results>(chunks.size());
      cache.fetch(origin, chunks, Results::into(results));
      for (std::size_t i = 0; i < chunks.size(); ++i)
        ASSERT_EQ(results->text(i), Origin::content(chunks[i].object_index)) << "round " << round;
      cache.flush();
    }
  }
}

TEST(TieredFaults, AHashOfAnotherChunkIsNoticedByTheLength) {
  const auto source = std::make_shared<MapSource>();
  source->put("1", Origin::content(1));
  source->put("10", Origin::content(10));  // one byte longer
  const auto origin = std::make_shared<Origin>(source);
  TieredCache::Options options;
  options.memory = std::make_shared<MapTier>("memory");
  options.lower = {std::make_shared<MapTier>("disk")};
  TieredCache cache(options);
  const auto read = [&](std::uint64_t index) {
    const auto results = std::make_shared<Results>(1);
    const ChunkRead wanted = chunk(index);
    cache.fetch(origin, {&wanted, 1}, Results::into(results));
    return results->text(0);
  };
  EXPECT_EQ(read(10), Origin::content(10));
  cache.flush();
  origin->learned_hash(chunk(1), *origin->known_hash(chunk(10)));
  EXPECT_EQ(read(1), Origin::content(1));
  EXPECT_EQ(read(1), Origin::content(1));
  EXPECT_EQ(source->reads(), 2);
}

}  // namespace
}  // namespace alnair
