#include "manager/cache/walk.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

namespace alnair::manager {
namespace {

using Clock = std::chrono::steady_clock;

// Looked for, and brought, together.
constexpr std::uint64_t kWindowBytes = 32ull << 20;
constexpr std::size_t kWindowChunks = 2048;
constexpr std::uint64_t kHopeless = 1000;  // objects that fail, and none that does not

std::vector<std::uint64_t> selected(const Manifest& manifest, const CopyPlan& plan) {
  std::vector<std::uint64_t> objects;
  if (!plan.keys.empty()) {
    for (const std::string& key : plan.keys)
      if (const auto index = manifest.find(key)) objects.push_back(*index);
    return objects;
  }
  for (std::uint64_t i = 0; i < manifest.size(); ++i)
    if (plan.prefix.empty() || manifest.key(i).starts_with(plan.prefix)) objects.push_back(i);
  return objects;
}

using Window = std::vector<ChunkOf>;

// Calls `visit(window, objects that end in it)` until that returns false.
template <typename Visit>
void for_each_window(const DatasetChunks& chunks, const std::vector<std::uint64_t>& objects, const Visit& visit) {
  std::size_t next = 0;
  std::uint64_t chunk = 0;
  while (next < objects.size()) {
    Window window;
    std::uint64_t bytes = 0, ended = 0;
    while (next < objects.size() && window.size() < kWindowChunks && bytes < kWindowBytes) {
      if (chunk == chunks.chunks_of(objects[next])) {
        ++next;
        ++ended;
        chunk = 0;
        continue;
      }
      window.push_back({objects[next], chunk++});
      bytes += chunks.bytes_of(window.back());
    }
    if (!visit(window, ended)) return;
  }
}

void count(const DatasetChunks& chunks, const Window& window, const std::vector<FoundChunk>& places,
           CopyStatus& status) {
  for (std::size_t i = 0; i < window.size(); ++i) {
    if (!places[i].cached()) continue;
    (places[i].place == Place::kRedis ? status.redis_bytes : status.directory_bytes) += chunks.bytes_of(window[i]);
  }
}

std::vector<std::uint64_t> all_of(const Manifest& manifest) { return selected(manifest, {}); }

class Walk {
 public:
  Walk(DatasetChunks& chunks, const CopyPlan& plan, const WalkReports& reports)
      : chunks_(chunks), plan_(plan), reports_(reports) {}

  void run() {
    const auto objects = selected(chunks_.manifest(), plan_);
    std::uint64_t total = 0;
    for (const std::uint64_t object : objects) total += chunks_.manifest().object_size(object);
    reports_.change([&](CopyStatus& status) {
      status.total_objects = objects.size();
      status.total_bytes = total;
    });
    if (plan_.work == Work::kEvict) find_kept();
    bool whole = plan_.prefix.empty() && plan_.keys.empty();
    for_each_window(chunks_, objects, [&](const Window& window, std::uint64_t ended) {
      reports_.check();
      const bool more = plan_.work == Work::kCopy    ? copy(window)
                        : plan_.work == Work::kCheck ? check(window)
                        : plan_.work == Work::kEvict ? evict(window)
                                                     : look(window);
      reports_.change([&](CopyStatus& status) { status.objects += ended; });
      whole &= more;
      return more;
    });
    if (copied_ > 0) chunks_.keep_hashes();
    reports_.change([&](CopyStatus& status) { status.whole = whole; });
  }

 private:
  bool look(const Window& window) {
    const auto places = chunks_.find(window);
    reports_.change([&](CopyStatus& status) { count(chunks_, window, places, status); });
    return true;
  }

  // Looks which chunks the tiers have, brings the others, and looks again: where the tiers took none of them, they are full.
  bool copy(const Window& window) {
    const auto before = chunks_.find(window);
    Window absent;
    for (std::size_t i = 0; i < window.size(); ++i)
      if (!before[i].cached()) absent.push_back(window[i]);
    reports_.change([&](CopyStatus& status) { count(chunks_, window, before, status); });
    const bool over = keep_within_quota(before, window, absent);
    if (absent.empty()) {
      reports_.change([&](CopyStatus& status) { status.full = over; });
      return !over;
    }
    const auto errors = chunks_.bring(absent, reports_.check);
    const auto after = chunks_.find(absent);
    std::set<std::uint64_t> failed;
    std::uint64_t taken = 0, refused = 0;
    std::string failure;
    for (std::size_t i = 0; i < absent.size(); ++i) {
      if (errors[i] != nullptr) {
        failed.insert(absent[i].object);
        failure = message_of(errors[i]);
      } else if (after[i].cached()) {
        taken += chunks_.bytes_of(absent[i]);
      } else {
        ++refused;
      }
    }
    const bool full = over || (refused > 0 && taken == 0);
    copied_ += taken;
    cached_ += taken;
    failures_ += failed.size();
    reports_.change([&](CopyStatus& status) {
      count(chunks_, absent, after, status);
      status.copied_bytes = copied_;
      status.failed_objects = failures_;
      if (!failure.empty()) status.failure = failure;
      status.full = full;
    });
    pace();
    return !full && (copied_ > 0 || failures_ < kHopeless);
  }

  // Leaves of `absent` what the quota has room for. Whether that is not all.
  bool keep_within_quota(const std::vector<FoundChunk>& before, const Window& window, Window& absent) {
    for (std::size_t i = 0; i < window.size(); ++i)
      if (before[i].cached()) cached_ += chunks_.bytes_of(window[i]);
    std::uint64_t room = plan_.most_bytes > cached_ ? plan_.most_bytes - cached_ : 0;
    const auto left_out = std::find_if(absent.begin(), absent.end(), [&](const ChunkOf& chunk) {
      const std::uint64_t bytes = chunks_.bytes_of(chunk);
      if (bytes > room) return true;
      room -= bytes;
      return false;
    });
    const bool over = left_out != absent.end();
    absent.erase(left_out, absent.end());
    return over;
  }

  // Every read is checked against the hash, and what is damaged goes.
  bool check(const Window& window) {
    const auto places = chunks_.find(window);
    const std::uint64_t damaged = chunks_.damaged(places);
    reports_.change([&](CopyStatus& status) {
      count(chunks_, window, places, status);
      status.damaged_chunks += damaged;
    });
    return true;
  }

  bool evict(const Window& window) {
    for (const FoundChunk& place : chunks_.find(window))
      if (place.hash && place.place != Place::kNowhere && !kept_.contains(*place.hash)) chunks_.evict(*place.hash);
    return true;
  }

  void find_kept() {
    for (const OpenChunks& open : plan_.kept) {
      const auto other = open();
      for_each_window(*other, all_of(other->manifest()), [&](const Window& window, std::uint64_t) {
        reports_.check();
        for (const FoundChunk& place : other->find(window))
          if (place.hash) kept_.insert(*place.hash);
        return true;
      });
    }
  }

  // Waits where the plan says how fast.
  void pace() const {
    if (plan_.bytes_per_s == 0) return;
    const std::chrono::duration<double> time(static_cast<double>(copied_) / static_cast<double>(plan_.bytes_per_s));
    while (Clock::now() - begun_ < time) {
      reports_.check();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }

  DatasetChunks& chunks_;
  const CopyPlan& plan_;
  const WalkReports& reports_;
  const Clock::time_point begun_ = Clock::now();
  std::uint64_t copied_ = 0, failures_ = 0, cached_ = 0;
  std::set<ContentHash> kept_;
};

}  // namespace

void walk(DatasetChunks& chunks, const CopyPlan& plan, const WalkReports& reports) {
  Walk(chunks, plan, reports).run();
}

}  // namespace alnair::manager
