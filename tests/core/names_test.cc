#include <gmock/gmock.h>

#include "core/nearest_names.h"
#include "core/percent.h"

namespace alnair {
namespace {

using ::testing::ElementsAre;

TEST(NearestNames, AreOrderedByEditDistance) {
  EXPECT_THAT(nearest_names("trian", {"val", "train", "trail", "t"}, 2), ElementsAre("train", "trail"));
}

TEST(PercentDecoded, TurnsEscapesIntoBytesAndRefusesHalfOnes) {
  EXPECT_EQ(percent_decoded("a%20b%2Fc%c3%BC+"), "a b/c\xc3\xbc+");
  EXPECT_EQ(percent_decoded("100%"), std::nullopt);
  EXPECT_EQ(percent_decoded("%2"), std::nullopt);
  EXPECT_EQ(percent_decoded("%zz"), std::nullopt);
}

}  // namespace
}  // namespace alnair
