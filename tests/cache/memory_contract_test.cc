#include "cache/memory/node_memory.h"
#include "cache/tier_contract.h"

namespace alnair::testing {
namespace {

template <EvictionPolicy kPolicy>
struct MemoryTier {
  static std::string base() { return "/dev/shm"; }
  static constexpr std::uint64_t kLimit = 16 << 20;
  static constexpr bool kHoldsDatasets = kPolicy == EvictionPolicy::kNone;
  static std::shared_ptr<Tier> open(const std::string& directory, std::uint64_t limit) {
    NodeMemoryOptions options;
    options.directory = directory + "/memory";
    options.limit = limit;
    options.policy = kPolicy;
    return NodeMemory::open(options);
  }
};

INSTANTIATE_TYPED_TEST_SUITE_P(Memory, TierContract, MemoryTier<EvictionPolicy::kNone>);
INSTANTIATE_TYPED_TEST_SUITE_P(MemoryLru, TierContract, MemoryTier<EvictionPolicy::kLru>);
INSTANTIATE_TYPED_TEST_SUITE_P(MemoryS3Fifo, TierContract, MemoryTier<EvictionPolicy::kS3Fifo>);

}  // namespace
}  // namespace alnair::testing
