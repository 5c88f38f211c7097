// Counts that change when a process of the node has brought a chunk: so that look-ahead can tell that it comes too late.
//
// A small table that all processes of the node map. Chunks share its counters: that one has changed says only that the chunk may have
// come.
//
// Thread safety: all methods may be called from any thread, any process, and in forked children.
#pragma once

#include <cstdint>
#include <string>

#include "dataset/shared_file.h"

namespace alnair {

class ArrivalCounts {
 public:
  // The table in this directory, for the chunks of this version of a dataset. An empty directory shares nothing.
  ArrivalCounts(const std::string& share_directory, std::uint64_t version);

  std::uint16_t get(std::uint64_t ordinal) const;
  void add(std::uint64_t ordinal);

 private:
  std::uint16_t* counter(std::uint64_t ordinal) const;

  const std::uint64_t version_;
  Mapping mapping_;  // empty: there is no memory
};

}  // namespace alnair
