#include "cache/directory/directory_space.h"

#include <errno.h>

#include <algorithm>
#include <map>

#include "cache/directory/chunk_names.h"
#include "core/io_pool.h"

namespace alnair {

namespace {

// A job that lives names its chunks again within this time (DirectoryOptions::tend_after), as other hosts see it.
constexpr std::chrono::nanoseconds kLivesFor = std::chrono::minutes(15);

// Looking lists the whole directory, so that it is not done for each of many small segments while there is ample room.
constexpr auto kLookedFor = std::chrono::seconds(1);
constexpr std::uint64_t kMargin = 4ull << 30;  // other hosts do not write more in that time

}  // namespace

std::optional<DirectorySpace::Account> DirectorySpace::account() {
  std::vector<FileInfo> listing;
  if (const int error = files_.files()->list(files_.directory(), listing); error < 0) {
    files_.fault(error, "list", "");
    return std::nullopt;
  }
  Account account;
  std::int64_t newest_ns = 0;  // about now, by the file system's clock
  for (const FileInfo& file : listing) {
    account.used_bytes += file.bytes;
    account.relied_on |= file.name == kReliedOnFile;
    newest_ns = std::max(newest_ns, file.modified_ns);
  }
  for (const FileInfo& file : listing) {
    const auto names = parse_names_file(file.name);
    if (names && newest_ns - file.modified_ns < kLivesFor.count()) account.named.insert(names->dataset);
  }
  account.limit_bytes = options_.limit_bytes;
  if (options_.limit_bytes == 0) {
    DiskSpace space;
    if (const int error = files_.files()->space(files_.directory(), space); error < 0) {
      files_.fault(error, "measure", "");
      return std::nullopt;
    }
    const std::uint64_t reserve = space.total_bytes / 10;
    const std::uint64_t available = account.used_bytes + space.free_bytes;
    account.limit_bytes = available > reserve ? available - reserve : 0;
  }
  const std::uint64_t free = account.limit_bytes - std::min(account.limit_bytes, account.used_bytes);
  ample_bytes_ = free - std::min(free, kMargin);
  looked_ = std::chrono::steady_clock::now();
  return account;
}

bool DirectorySpace::has_ample_room(std::uint64_t bytes) const {
  return bytes <= ample_bytes_ && std::chrono::steady_clock::now() - looked_ < kLookedFor;
}

bool DirectorySpace::has_room(std::uint64_t bytes) {
  if (has_ample_room(bytes)) return true;
  const std::optional<Account> now = account();
  return now && now->used_bytes + bytes <= now->limit_bytes;
}

bool DirectorySpace::make_room(std::uint64_t bytes, DatasetTag requester) {
  if (has_ample_room(bytes)) return true;
  std::optional<Account> now = account();
  if (!now) return false;
  while (now->used_bytes + bytes > now->limit_bytes) {
    if (bytes > now->limit_bytes) return false;
    const auto chosen = victim(requester, now->named);
    if (!chosen) return false;
    const auto& [slot, segment] = *chosen;
    // Who cannot tell those who rely on the chunks may not drop them.
    if (now->relied_on && !options_.before_drop) return false;
    if (!drop(segment.nonce)) return false;
    index_.remove(slot);
    files_.forget(segment.nonce);
    now->used_bytes -= std::min(now->used_bytes, segment.bytes);
    metrics().add(files_.id(), TierCounter::kEvictedBytes, segment.bytes);
  }
  return true;
}

int DirectorySpace::remove(const std::string& name) {
  const int error = files_.files()->remove(files_.path(name));
  return error < 0 && !is_gone(error) ? files_.fault(error, "remove", name) : 0;
}

bool DirectorySpace::drop(const SegmentNonce& segment, const std::unordered_set<ContentHash>& elsewhere) {
  const std::string name = segment_name(segment), leaving = leaving_segment_name(segment);
  if (!options_.before_drop) return remove(name) == 0;
  int error = 0;
  const auto footer = files_.read_footer(segment, error);
  if (!footer) return (error == 0 || is_gone(error)) && remove(name) == 0;  // damaged, or gone: nobody finds it durable
  error = files_.files()->rename(files_.path(name), files_.path(leaving));  // step 1
  if (is_gone(error)) return true;
  if (error < 0) {
    files_.fault(error, "rename", name);
    return false;
  }
  std::vector<ContentHash> hashes;
  hashes.reserve(footer->entries.size());
  for (const SegmentEntry& entry : footer->entries)
    if (!elsewhere.contains(entry.hash)) hashes.push_back(entry.hash);
  IoPool::note_progress();
  if (!options_.before_drop(hashes)) {  // step 2
    files_.files()->rename(files_.path(leaving), files_.path(name));
    return false;
  }
  return remove(leaving) == 0;  // step 3
}

std::optional<std::pair<std::uint32_t, KnownSegment>> DirectorySpace::victim(
    DatasetTag requester, const std::set<DatasetTag>& named) const {
  const auto segments = index_.table().all();
  std::map<DatasetTag, bool> held;
  std::vector<SegmentInfo> shown;
  for (const auto& [slot, segment] : segments) {
    const auto [known, fresh] = held.emplace(segment.dataset, false);
    if (fresh) known->second = named.contains(segment.dataset) || share_.is_held(segment.dataset);
    SegmentInfo info;
    info.dataset = segment.dataset;
    info.held = known->second;
    info.sequence = static_cast<std::uint64_t>(segment.created_ns);
    info.last_use = static_cast<std::uint64_t>(segment.last_used_ns) / 1'000'000;
    info.bytes = segment.bytes;
    shown.push_back(info);
  }
  const std::optional<Eviction> eviction = policy_.choose(shown, requester);
  return eviction ? std::optional(segments[eviction->victim]) : std::nullopt;
}

}  // namespace alnair
