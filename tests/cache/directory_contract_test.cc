#include <filesystem>

#include "cache/directory/directory_tier.h"
#include "cache/tier_contract.h"

namespace alnair::testing {
namespace {

template <EvictionPolicy kPolicy, bool kShared>
struct DirectoryContract {
  static std::string base() { return std::filesystem::temp_directory_path(); }
  static constexpr std::uint64_t kLimit = 16 << 20;
  static constexpr bool kHoldsDatasets = kPolicy == EvictionPolicy::kNone;
  static std::shared_ptr<Tier> open(const std::string& directory, std::uint64_t limit) {
    DirectoryOptions options;
    options.directory = directory + "/chunks";
    if (kShared) options.node_directory = directory + "/node";
    options.limit_bytes = limit;
    options.eviction = kPolicy;
    return std::make_shared<DirectoryTier>(options);
  }
};

using Shared = DirectoryContract<EvictionPolicy::kNone, true>;
using Private = DirectoryContract<EvictionPolicy::kNone, false>;
using Lru = DirectoryContract<EvictionPolicy::kLru, true>;
INSTANTIATE_TYPED_TEST_SUITE_P(Directory, TierContract, Shared);
INSTANTIATE_TYPED_TEST_SUITE_P(DirectoryAlone, TierContract, Private);
INSTANTIATE_TYPED_TEST_SUITE_P(DirectoryLru, TierContract, Lru);

}  // namespace
}  // namespace alnair::testing
