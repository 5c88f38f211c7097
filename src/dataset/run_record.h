// What the processes of one run on a node agree on: the version of a dataset that the first of them found.
//
// The record is a file in the share directory, so it ends with node memory; the ones used least recently are removed when
// there are many. The lock dies with its holder, so the next process lists in its place.
//
// Thread safety: distinct objects may be used by any threads and processes at once.
#pragma once

#include <string>

#include "alnair/source/object_source.h"
#include "cache/lock_file.h"
#include "dataset/node.h"

namespace alnair {

class RunRecord {
 public:
  RunRecord(const Node& node, const std::string& run, const std::string& dataset);

  // The version that was recorded; empty: none (or the record is damaged).
  std::string version() const;

  // Waits until no other process of the run is about to find the version out. An empty guard: there is no lock to be had, or
  // its holder kept it for kPatience; the caller goes on without. Throws what `interrupt` throws.
  LockFile::Guard wait_for_turn(const Interrupt& interrupt) const;

  // The first record stays. Without a share directory nothing is recorded.
  void write(const std::string& version) const;

 private:
  LockFile* const locks_;
  const std::string directory_;
  std::string name_;
  std::uint64_t lock_ = 0;
};

}  // namespace alnair
