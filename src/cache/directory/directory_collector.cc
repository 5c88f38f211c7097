// How a segment is collected, so that this process may die between any two steps, while other hosts read it, write the same chunks, or
// collect it, too:
//
//  1. The names of all live jobs are read. A segment that is younger than `durability` is left alone: its writer's names may not be
//     there yet. Times are those of the directory's file system, which all hosts see alike.
//  2. If it is mostly dead, what is named is copied to a new segment (open_segment.cc: synced, under its own name). After a death here
//     chunks are in both, and both are collected alike one day.
//  3. The new segment is in this host's index before the old one leaves. Other hosts still look in the old one: who does not find it
//     lists the directory before it counts as a miss (directory_tier.cc).
//  4. The old one leaves as directory_space.cc has it: renamed, those told who rely on chunks that are not in the new one, removed.
//
// A writer that finds a chunk in a segment that is just being collected believes it stored. Who relies on that looks again (flusher.cc,
// cluster_over_redis.cc); to all others it is a chunk less. Of two hosts that collect one segment both copy, and one removes it.
#include "cache/directory/directory_collector.h"

#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <unordered_set>

#include "core/io_pool.h"

namespace alnair {
namespace {

constexpr std::string_view kClockFile = "clock";  // touched to learn what time it is on the file system
constexpr std::uint64_t kMaxNamesBytes = 1ull << 30;
constexpr std::uint64_t kNamesHeadBytes = 32;
constexpr auto kAtOnce = std::chrono::seconds(1);

std::int64_t nanoseconds(std::chrono::nanoseconds time) { return time.count(); }

}  // namespace

DirectoryCollector::DirectoryCollector(const DirectoryOptions& options, DirectoryShare& share, SegmentFiles& files,
                                       DirectoryIndex& index, DirectorySpace& space, DirectoryWriter& writer)
    : options_(options), share_(share), files_(files), index_(index), space_(space), writer_(writer) {}

void DirectoryCollector::name(DatasetTag dataset, std::uint64_t version, NamedChunks names) {
  const std::lock_guard lock(mutex_);
  Job& job = jobs_[{dataset, version}];
  job.names = std::move(names);
  ++job.users;
}

void DirectoryCollector::unname(DatasetTag dataset, std::uint64_t version) {
  const std::lock_guard lock(mutex_);
  const auto job = jobs_.find({dataset, version});
  if (job != jobs_.end() && --job->second.users == 0) jobs_.erase(job);
}

void DirectoryCollector::tell() {
  std::map<Key, Job> jobs;
  {
    const std::lock_guard lock(mutex_);
    jobs = jobs_;
  }
  for (auto& [key, job] : jobs) {
    tell(key, job);
    const std::lock_guard lock(mutex_);
    const auto known = jobs_.find(key);
    if (known == jobs_.end()) continue;
    known->second.told = job.told;
    known->second.checked = job.checked;
  }
}

void DirectoryCollector::tell(const Key& key, Job& job) {
  const std::string whole = names_file({key.first, key.second});
  const std::string part = names_file({key.first, key.second, index_.table().shared().node});
  if (touch_whole(whole, job)) return;
  NamedChunks::Names names = job.names.ask();
  if (names.chunks.empty() || (!names.complete && names.chunks.size() == job.told && touch(part))) return;
  const ChunkNames all{key.first, std::chrono::duration_cast<std::chrono::seconds>(options_.durability), std::move(names.chunks)};
  if (!write(names.complete ? whole : part, all)) return;
  job.told = all.chunks.size();
  job.checked |= names.complete;
  if (names.complete) files_.files()->remove(files_.path(part));
}

bool DirectoryCollector::tell_again(DatasetTag dataset, std::uint64_t version) {
  Job nobody;
  return touch_whole(names_file({dataset, version}), nobody);
}

bool DirectoryCollector::touch_whole(const std::string& whole, Job& job) {
  IoPool::note_progress();
  if (!job.checked) {
    const auto head = read(whole, kNamesHeadBytes);
    std::uint64_t keep = 0;
    if (head && head->size() == kNamesHeadBytes) std::memcpy(&keep, head->data() + 16, sizeof keep);
    job.checked = std::chrono::seconds(keep) >= options_.durability;
  }
  return job.checked && touch(whole);
}

bool DirectoryCollector::touch(const std::string& file) { return files_.files()->touch(files_.path(file)) >= 0; }

bool DirectoryCollector::write(const std::string& file, const ChunkNames& names) {
  FileSystem& system = *files_.files();
  const SegmentNonce nonce = random_nonce();
  const LockFile::Guard owner = share_.own(nonce);  // else somebody takes it for an orphan
  const std::string fresh = files_.path(open_segment_name(nonce, index_.table().shared().node));
  const int fd = system.open(fresh, O_RDWR | O_CREAT | O_EXCL);
  if (fd < 0) return files_.fault(fd, "create", file), false;
  std::vector<std::byte> bytes = encode_names(names);
  const iovec piece{bytes.data(), bytes.size()};
  int error = system.write(fd, {&piece, 1}, 0);
  system.close(fd);
  if (error >= 0) error = system.rename(fresh, files_.path(file));
  if (error >= 0) return true;
  system.remove(fresh);
  return files_.fault(error, "write", file), false;
}

std::optional<std::vector<std::byte>> DirectoryCollector::read(const std::string& file, std::uint64_t most) {
  FileSystem& system = *files_.files();
  const int fd = system.open(files_.path(file), O_RDONLY);
  if (fd < 0) return std::nullopt;
  const File guard(files_.files(), fd);
  const std::int64_t size = system.size(fd);
  if (size < 0) return std::nullopt;
  std::vector<std::byte> bytes(std::min<std::uint64_t>(static_cast<std::uint64_t>(size), most));
  const iovec piece{bytes.data(), bytes.size()};
  const std::int64_t got = system.read(fd, {&piece, 1}, 0);
  if (got < 0) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(got));
  return bytes;
}

bool DirectoryCollector::list(std::vector<FileInfo>& listing, std::int64_t& now_ns) {
  FileSystem& system = *files_.files();
  const std::string clock(kClockFile);
  if (!touch(clock)) {
    const int fd = system.open(files_.path(clock), O_RDWR | O_CREAT);
    if (fd < 0) return files_.fault(fd, "create", clock), false;
    system.close(fd);
    if (!touch(clock)) return false;
  }
  if (const int error = system.list(files_.directory(), listing); error < 0) return files_.fault(error, "list", ""), false;
  const auto found = std::find_if(listing.begin(), listing.end(), [](const FileInfo& file) { return file.name == kClockFile; });
  if (found == listing.end()) return false;
  now_ns = found->modified_ns;
  return true;
}

std::vector<ChunkNames> DirectoryCollector::live_names(std::span<const FileInfo> listing, std::int64_t now_ns) {
  std::vector<ChunkNames> live;
  for (const FileInfo& file : listing) {
    if (!parse_names_file(file.name)) continue;
    IoPool::note_progress();
    const auto bytes = read(file.name, kMaxNamesBytes);
    auto names = bytes ? decode_names(*bytes) : std::nullopt;
    const std::int64_t age = now_ns - file.modified_ns;
    // A damaged one names nothing; its jobs will write it again.
    if (names && age <= nanoseconds(names->keep) + nanoseconds(2 * options_.tend_after))
      live.push_back(std::move(*names));
    else if (bytes)
      files_.files()->remove(files_.path(file.name));
  }
  return live;
}

bool DirectoryCollector::collect() {
  const auto begin = Clock::now();
  const DirectoryShare::Change alone = share_.merging();
  std::vector<FileInfo> listing;
  std::int64_t now_ns = 0;
  if (!alone || !list(listing, now_ns)) return false;
  std::map<SegmentNonce, std::int64_t> old;
  const std::int64_t limit = nanoseconds(options_.durability) + nanoseconds(2 * options_.tend_after);
  for (const FileInfo& file : listing) {
    if (file.name == kReliedOnFile && !options_.before_drop) return false;  // those who rely on it cannot be told
    const auto nonce = parse_segment_name(file.name);
    if (nonce && now_ns - file.modified_ns > limit) old.emplace(*nonce, file.modified_ns);
  }
  std::erase_if(examined_, [&](const auto& segment) { return !old.contains(segment.first); });
  std::optional<std::vector<ChunkNames>> names;
  for (const auto& [slot, segment] : index_.table().all()) {
    if (!old.contains(segment.nonce)) continue;
    const auto examined = examined_.find(segment.nonce);
    if (examined != examined_.end() && Clock::now() - examined->second < 4 * options_.tend_after) continue;
    if (!names) names = live_names(listing, now_ns);
    if (!collect(slot, segment, *names))
      examined_[segment.nonce] = Clock::now();
    else if (Clock::now() - begin > kAtOnce)
      return true;  // others want the writing thread
  }
  return false;
}

bool DirectoryCollector::collect(std::uint32_t slot, const KnownSegment& segment, std::span<const ChunkNames> names) {
  IoPool::note_progress();
  int error = 0;
  const auto footer = files_.read_footer(segment.nonce, error);
  if (!footer) return false;  // the next scan says what is wrong with it
  std::vector<SegmentEntry> live;
  std::uint64_t bytes = 0;
  DatasetTag dataset = 0;
  for (const SegmentEntry& entry : footer->entries) {
    const auto by = std::find_if(names.begin(), names.end(), [&](const auto& those) { return those.has(first64(entry.hash)); });
    if (by == names.end()) continue;
    dataset = by->dataset;
    bytes += record_bytes(entry.length);
    live.push_back(entry);
  }
  if (bytes > footer->records_end / 2) return false;
  return replace(slot, segment, *footer, live, dataset);
}

// Steps 2 to 4. What is damaged is not copied, and those who rely on it are told.
bool DirectoryCollector::replace(std::uint32_t slot, const KnownSegment& segment, const SegmentFooter& footer,
                                 std::span<const SegmentEntry> kept, DatasetTag dataset) {
  std::unordered_set<ContentHash> copied;
  if (!kept.empty()) {
    auto copies = writer_.copy_to_new(footer, kept, dataset);
    if (!copies) return false;
    copied = std::move(*copies);
  }
  const DirectoryShare::Change change = share_.change();
  if (!change || !space_.drop(segment.nonce, copied)) return false;
  if (const auto now = index_.table().get(slot); now && now->nonce == segment.nonce) index_.remove(slot);
  files_.forget(segment.nonce);
  metrics().add(files_.id(), TierCounter::kEvictedBytes, segment.bytes);
  return true;
}

void DirectoryCollector::mend(const SegmentNonce& nonce, const std::unordered_set<ContentHash>& damaged) {
  const DirectoryShare::Change alone = share_.merging();
  const auto account = alone ? space_.account() : std::nullopt;
  if (!account || (account->relied_on && !options_.before_drop)) return;
  int error = 0;
  const auto footer = files_.read_footer(nonce, error);
  if (!footer) return;  // the next scan says what is wrong with it
  std::vector<SegmentEntry> sound;
  for (const SegmentEntry& entry : footer->entries)
    if (!damaged.contains(entry.hash)) sound.push_back(entry);
  for (const auto& [slot, segment] : index_.table().all())
    if (segment.nonce == nonce) {
      replace(slot, segment, *footer, sound, segment.dataset);
      return;
    }
}

}  // namespace alnair
