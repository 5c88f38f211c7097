// A Buffer whose block is used again, for the bytes of chunks: they mostly come in one thread and are given up in another, where
// malloc would give the pages of large blocks to the kernel, and fetch zeroed ones each time.
//
// At most 32 MiB of blocks are kept in a process. Thread safety: as Buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "alnair/core/bytes.h"

namespace alnair {

class RecycledBuffer {
 public:
  RecycledBuffer() = default;
  explicit RecycledBuffer(std::uint64_t size);

  std::byte* data() { return block_.get(); }
  std::uint64_t size() const { return size_; }
  std::span<std::byte> bytes() { return {block_.get(), size_}; }

  // Gives up the block: nobody writes to it any more. `size` may be smaller than what was allocated.
  View freeze(std::uint64_t size) && {
    std::shared_ptr<const std::byte[]> owner(std::move(block_));
    const std::byte* data = owner.get();
    return {std::move(owner), {data, size}};
  }
  View freeze() && { return std::move(*this).freeze(size_); }

 private:
  struct GiveBack {
    std::uint64_t size;  // that the block was made with
    void operator()(std::byte* block) const;
  };
  std::unique_ptr<std::byte[], GiveBack> block_{nullptr, GiveBack{0}};
  std::uint64_t size_ = 0;
};

}  // namespace alnair
