// What changed between two versions of a dataset.
#pragma once

#include <cstdint>
#include <functional>

#include "alnair/dataset/manifest.h"

namespace alnair {

struct ManifestDiff {
  std::uint64_t added = 0;
  std::uint64_t changed = 0;  // the same key, another version (ObjectInfo::same_version)
  std::uint64_t removed = 0;
  std::uint64_t unchanged = 0;
};

// Called with the indices of an unchanged object in both manifests: what is known of it still holds.
using UnchangedObject = std::function<void(std::uint64_t before, std::uint64_t after)>;

// One pass over both. Pure, but for the calls. `unchanged` may be empty.
ManifestDiff diff_manifests(const Manifest& before, const Manifest& after,
                            const UnchangedObject& unchanged = {});

}  // namespace alnair
