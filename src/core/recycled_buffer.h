// A Buffer whose block is used again, for the bytes of chunks: they mostly come in one thread and are given up in another, where
// malloc would wait for the first one's arena, and give the pages of large blocks to the kernel and fetch zeroed ones each time.
//
// At most 32 MiB of blocks are kept in a process. Thread safety: as Buffer.
#pragma once

#include <cstddef>
#include <cstdint>

#include "alnair/core/bytes.h"

namespace alnair {

struct GiveBack {
  std::uint64_t size = 0;  // that the block was made with
  void operator()(std::byte* block) const;
};

class RecycledBuffer : public OwnedBlock<GiveBack> {
 public:
  RecycledBuffer() = default;
  explicit RecycledBuffer(std::uint64_t size);
};

}  // namespace alnair
