// The cache's side of the manager: names of domains. What needs servers is tested with real ones in tests/python.
#include "manager/cache/domains.h"

#include <gmock/gmock.h>

#include "redis/url.h"

namespace alnair::manager {
namespace {

using ::testing::StartsWith;

TEST(NameInTiers, ANameThatIsFitStays) {
  for (const char* name : {"alice", "team-1", "a.b_c", "H.x"}) EXPECT_EQ(name_in_tiers(name), name);
}

TEST(NameInTiers, OthersAreHashedAndFitInKeysDirectoriesAndUrls) {
  for (const std::string name : {"alice@example.com", "..", ".", ".hidden", "", "a:b", "a*", "a/b"}) {
    const std::string hashed = name_in_tiers(name);
    EXPECT_THAT(hashed, StartsWith("h."));
    EXPECT_EQ(redis::parse_url("redis://host?domain=" + hashed).domain, hashed);
  }
}

// Who may choose a name must not come into another one's domain.
TEST(NameInTiers, NobodyCanTakeAHashedName) {
  const std::string victim = name_in_tiers("alice@example.com");
  EXPECT_NE(name_in_tiers(victim), victim);
}

}  // namespace
}  // namespace alnair::manager
