#include "support/faulty_tier.h"

#include <gtest/gtest.h>

#include "directory_support.h"
#include "support/map_tier.h"

namespace alnair::testing {
namespace {

using namespace disk;

class FaultyTierTest : public ::testing::Test {
 protected:
  const std::vector<PutRequest> chunks_ = make_chunks(20, 100);
  FaultyTier tier_{std::make_shared<MapTier>("map")};
};

TEST_F(FaultyTierTest, WithoutFaultsItIsTheTierBelow) {
  EXPECT_EQ(count_stored(tier_, chunks_), 20u);
  EXPECT_EQ(count_hits(tier_, chunks_), 20u);
  EXPECT_EQ(tier_.injected(), 0u);
}

TEST_F(FaultyTierTest, EachFaultIsWhatItsNameSays) {
  count_stored(tier_, chunks_);
  tier_.set({.drop_get = 1});
  EXPECT_EQ(count_hits(tier_, chunks_), 0u);
  tier_.set({.corrupt_get = 1});
  for (const auto& view : get_all(tier_, hashes_of(chunks_))) EXPECT_EQ(view->size(), 100u);
  EXPECT_NE(get_all(tier_, hashes_of(chunks_))[3]->text(), chunks_[3].bytes.text());
  tier_.set({.shorten_get = 1});
  EXPECT_EQ(get_all(tier_, hashes_of(chunks_))[3]->size(), 99u);
  tier_.set({.delay_get = 1, .delay = std::chrono::milliseconds(5)});
  EXPECT_EQ(count_hits(tier_, chunks_), 20u);
  const auto more = make_chunks(5, 100, 7);
  tier_.set({.refuse_put = 1});
  EXPECT_EQ(count_stored(tier_, more), 0u);
  tier_.set({.lose_put = 1});
  EXPECT_EQ(count_stored(tier_, more), 5u);
  tier_.set({});
  EXPECT_EQ(count_hits(tier_, more), 0u);
}

}  // namespace
}  // namespace alnair::testing
