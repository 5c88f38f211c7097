#include "dataset/manifest/diff.h"

#include <algorithm>

namespace alnair {
namespace {

// Reads a manifest from its beginning, a batch at a time.
class Cursor {
 public:
  explicit Cursor(const Manifest& manifest) : manifest_(manifest) { fill(); }

  bool at_end() const { return objects_.empty(); }
  const ObjectInfo& object() const { return objects_[index_ - first_]; }
  std::uint64_t index() const { return index_; }
  void next() {
    if (++index_ == first_ + objects_.size()) fill();
  }

 private:
  static constexpr std::uint64_t kBatch = 1024;
  void fill() {
    first_ = index_;
    objects_ = manifest_.objects(first_, std::min(kBatch, manifest_.size() - first_));
  }

  const Manifest& manifest_;
  std::vector<ObjectInfo> objects_;
  std::uint64_t first_ = 0;  // of objects_
  std::uint64_t index_ = 0;
};

}  // namespace

ManifestDiff diff_manifests(const Manifest& before, const Manifest& after, const UnchangedObject& unchanged) {
  ManifestDiff diff;
  Cursor old(before), fresh(after);
  while (!old.at_end() && !fresh.at_end()) {
    const int order = old.object().key.compare(fresh.object().key);
    if (order < 0) {
      ++diff.removed;
      old.next();
    } else if (order > 0) {
      ++diff.added;
      fresh.next();
    } else {
      if (old.object().same_version(fresh.object())) {
        ++diff.unchanged;
        if (unchanged) unchanged(old.index(), fresh.index());
      } else {
        ++diff.changed;
      }
      old.next();
      fresh.next();
    }
  }
  diff.removed += before.size() - old.index();
  diff.added += after.size() - fresh.index();
  return diff;
}

}  // namespace alnair
