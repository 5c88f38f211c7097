#include "core/recycled_buffer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <mutex>

namespace alnair {
namespace {

// malloc does well below.
constexpr std::uint64_t kSmallestKept = 2 << 10;
constexpr std::uint64_t kLargestKept = 8ull << 20;
constexpr std::uint64_t kKeptBytes = 32ull << 20;
constexpr std::size_t kKeptBlocks = 512;

// Four sizes between a power of two and the next: objects of about one size use each other's blocks.
std::uint64_t capacity_for(std::uint64_t size) {
  const std::uint64_t step = std::bit_floor(size) / 4;
  return (size + step - 1) / step * step;
}

#ifdef __SANITIZE_ADDRESS__
constexpr bool kKeeps = false;  // it sees who uses a block that was freed
#else
constexpr bool kKeeps = true;
#endif

bool is_kept(std::uint64_t size) { return kKeeps && size >= kSmallestKept && size <= kLargestKept; }

// The last blocks that were given back. No thread waits for it: a forked child may inherit the mutex locked, and then does
// without.
class KeptBlocks {
 public:
  std::byte* take(std::uint64_t capacity) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return nullptr;
    for (std::size_t i = count_; i-- > 0;) {
      if (blocks_[i].capacity != capacity) continue;
      std::byte* block = blocks_[i].block;
      std::move(blocks_.begin() + static_cast<std::ptrdiff_t>(i) + 1, blocks_.begin() + static_cast<std::ptrdiff_t>(count_),
                blocks_.begin() + static_cast<std::ptrdiff_t>(i));
      --count_;
      bytes_ -= capacity;
      return block;
    }
    return nullptr;
  }

  bool give(std::byte* block, std::uint64_t capacity) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return false;
    if (count_ == kKeptBlocks || bytes_ + capacity > kKeptBytes) return false;
    blocks_[count_++] = {block, capacity};
    bytes_ += capacity;
    return true;
  }

 private:
  struct Kept {
    std::byte* block;
    std::uint64_t capacity;
  };
  std::mutex mutex_;
  std::array<Kept, kKeptBlocks> blocks_{};
  std::size_t count_ = 0;
  std::uint64_t bytes_ = 0;
};

KeptBlocks& kept_blocks() {
  static auto* const kept = new KeptBlocks;  // never destroyed: views may outlive everything
  return *kept;
}

std::byte* block_of(std::uint64_t size) {
  const std::uint64_t capacity = is_kept(size) ? capacity_for(size) : size;
  std::byte* block = is_kept(size) ? kept_blocks().take(capacity) : nullptr;
  return block != nullptr ? block : new std::byte[capacity];
}

}  // namespace

RecycledBuffer::RecycledBuffer(std::uint64_t size) : OwnedBlock(Block(block_of(size), GiveBack{size}), size) {}

void GiveBack::operator()(std::byte* block) const {
  if (!is_kept(size) || !kept_blocks().give(block, capacity_for(size))) delete[] block;
}

}  // namespace alnair
