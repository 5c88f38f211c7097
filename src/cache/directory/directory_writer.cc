#include "cache/directory/directory_writer.h"

#include <errno.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "cache/directory/segment_merge.h"
#include "core/io_pool.h"

namespace alnair {
namespace {

constexpr std::size_t kMaxOpenSegments = 4;         // datasets that are written at once
constexpr std::uint64_t kMaxWriteBytes = 8u << 20;  // in one call
constexpr std::int64_t kOrphanAgeNs =
    3'600'000'000'000;  // another host's open segment, unchanged for so long, is nobody's
constexpr auto kLeavesFor = std::chrono::seconds(60);  // then who dropped the segment has died
constexpr std::int64_t kSettledAfterNs = 2'000'000'000;
constexpr auto kFullFor = std::chrono::milliseconds(500);

std::int64_t now_ns() {
  return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

DirectoryWriter::DirectoryWriter(const DirectoryOptions& options, DirectoryShare& share, SegmentFiles& files,
                                 DirectoryIndex& index, DirectorySpace& space, OpenChunks& open_chunks)
    : options_(options),
      share_(share),
      files_(files),
      index_(index),
      space_(space),
      open_chunks_(open_chunks) {
  note_oldest();
}

bool DirectoryWriter::scan(bool anyway) {
  FileSystem& system = *files_.files();
  SegmentTable::Shared& shared = index_.table().shared();
  // Before the listing: what changes during it is seen by the next scan. Times are coarse, so that a later
  // change may leave an equal one; hence a time is relied on only when it was long ago.
  const std::int64_t modified = system.modified(files_.directory());
  const bool settled = modified > 0 && modified == shared.settled;
  anyway |= options_.relist_after.count() > 0 && Clock::now() > listed_ + options_.relist_after;
  if (settled && !anyway) return true;
  const DirectoryShare::Change change = share_.change();
  if (!change) return false;
  std::vector<FileInfo> listing;
  int error = modified < 0 ? static_cast<int>(modified) : system.list(files_.directory(), listing);
  if (is_gone(error)) error = 0;  // so are the segments
  if (error < 0) {
    files_.fault(error, "list", "");
    return false;
  }
  std::map<SegmentNonce, std::uint32_t> known;
  for (const auto& [slot, segment] : index_.table().all()) known.emplace(segment.nonce, slot);
  // Where two segments have a chunk, the newer one counts: the older may be damaged.
  std::sort(listing.begin(), listing.end(),
            [](const FileInfo& a, const FileInfo& b) { return a.modified_ns < b.modified_ns; });
  bool writers = false;  // whose death would leave the directory's time as it is
  for (const FileInfo& file : listing) {
    if (const auto nonce = parse_segment_name(file.name)) {
      if (known.erase(*nonce) == 0) load(*nonce, file);
      leaving_.erase(*nonce);
    } else if (const auto leaving = parse_leaving_segment_name(file.name)) {
      bring_back(*leaving);
      writers = true;
    } else if (const auto open = parse_open_segment_name(file.name)) {
      writers |= !remove_orphan(*open, file);
    }
  }
  for (const auto& [nonce, slot] : known) {
    index_.remove(slot);
    files_.forget(nonce);
  }
  if (!writers && now_ns() - modified > kSettledAfterNs) shared.settled = modified;
  shared.scanned = 1;
  listed_ = Clock::now();
  return true;
}

std::vector<char> DirectoryWriter::sealed(std::span<const ContentHash> hashes) {
  std::vector<char> found(hashes.size());
  // This asks the server of a network file system whether names have changed; else it might tell of those that it remembers.
  if (files_.files()->modified(files_.directory()) < 0) return found;
  std::map<SegmentNonce, bool> there;
  const auto is_there = [&](const SegmentNonce& nonce) {
    const auto [known, fresh] = there.emplace(nonce, false);
    if (fresh) {
      IoPool::note_progress();
      known->second = files_.is_there(nonce);
    }
    return known->second;
  };
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    const ChunkPlaces places = index_.find(hashes[i]);
    found[i] = std::any_of(places.begin(), places.end(), [&](const ChunkPlace& place) { return is_there(place.segment); });
  }
  if (std::all_of(found.begin(), found.end(), [](char each) { return each != 0; }) || !scan(true)) return found;
  for (std::size_t i = 0; i < hashes.size(); ++i) found[i] = index_.find(hashes[i]).count > 0;
  return found;
}

void DirectoryWriter::bring_back(const SegmentNonce& nonce) {
  const auto [seen, fresh] = leaving_.emplace(nonce, Clock::now());
  if (fresh || Clock::now() - seen->second < kLeavesFor) return;
  files_.files()->rename(files_.path(leaving_segment_name(nonce)), files_.path(segment_name(nonce)));
  leaving_.erase(seen);
}

void DirectoryWriter::load(const SegmentNonce& nonce, const FileInfo& file) {
  IoPool::note_progress();
  int error = 0;
  if (const auto footer = files_.read_footer(nonce, error)) {
    enter(*footer, file.bytes, file.modified_ns, file.modified_ns);
  } else if (error == 0) {
    metrics().add(files_.id(), TierCounter::kCorrupt);
    files_.files()->remove(files_.path(file.name));
  } else if (!is_gone(error)) {
    files_.fault(error, "read", file.name);
  }
}

void DirectoryWriter::enter(const SegmentFooter& footer, std::uint64_t file_bytes, std::int64_t created_ns,
                            std::int64_t last_used_ns) {
  const std::size_t lost = index_.add(footer, file_bytes, created_ns, last_used_ns);
  if (lost == 0) return;
  index_.table().shared().lost = 1;
  files_.fault(-ENOSPC, "index all chunks of", segment_name(footer.nonce));
}

bool DirectoryWriter::remove_orphan(const OpenSegmentName& name, const FileInfo& file) {
  const bool ours = name.node == index_.table().shared().node;
  // A writer of this node is alive if it holds the lock. Of others we know nothing: their file's age must do.
  const bool orphan =
      ours && share_.shared() ? !share_.is_owned(name.nonce) : now_ns() - file.modified_ns > kOrphanAgeNs;
  return orphan && files_.files()->remove(files_.path(file.name)) == 0;
}

void DirectoryWriter::put(std::span<const PutRequest* const> requests,
                          std::span<PutOutcome* const> outcomes) {
  std::vector<std::size_t> order(requests.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return requests[a]->dataset < requests[b]->dataset; });
  std::vector<const PutRequest*> chunks;
  for (std::size_t next = 0; next < order.size();) {
    const PutRequest& first = *requests[order[next]];
    const std::size_t begin = next++;
    chunks.assign(1, &first);
    OpenSegment* segment = open_for(first.dataset, first.bytes.size());
    if (segment != nullptr) {
      std::uint64_t bytes = record_bytes(first.bytes.size());
      for (; next < order.size() && bytes < kMaxWriteBytes; ++next) {
        const PutRequest& request = *requests[order[next]];
        const std::uint64_t more = bytes + record_bytes(request.bytes.size());
        if (request.dataset != first.dataset || !segment->fits(chunks.size() + 1, more)) break;
        chunks.push_back(&request);
        bytes = more;
      }
    }
    const bool stored = segment != nullptr && write(*segment, chunks);
    for (std::size_t i = begin; i < next; ++i) {
      *outcomes[order[i]] = stored ? PutOutcome::kStored : PutOutcome::kRefused;
    }
  }
}

OpenSegment* DirectoryWriter::open_for(DatasetTag dataset, std::uint64_t length) {
  const std::uint64_t least = OpenSegment::segment_bytes(1, record_bytes(length));
  if (least > kMaxSegmentFileBytes) return nullptr;
  if (const auto found = open_.find(dataset); found != open_.end()) {
    if (found->second.segment->fits(1, record_bytes(length))) return found->second.segment.get();
    seal(std::move(open_.extract(found).mapped()), now_ns());
  }
  if (open_.size() >= kMaxOpenSegments) {
    const auto oldest = std::min_element(open_.begin(), open_.end(), [](const auto& a, const auto& b) {
      return a.second.since < b.second.since;
    });
    seal(std::move(open_.extract(oldest).mapped()), now_ns());
  }
  Open open = create(dataset, std::max(least, options_.segment_bytes), true);
  OpenSegment* opened = open.segment.get();
  if (opened != nullptr) open_.insert_or_assign(dataset, std::move(open));
  note_oldest();
  return opened;
}

DirectoryWriter::Open DirectoryWriter::create(DatasetTag dataset, std::uint64_t bytes, bool may_evict) {
  if (bytes >= full_for_bytes_ && Clock::now() < full_until_) return {};
  // Room is found and taken under one lock, or two writers would find the same.
  const DirectoryShare::Change change = share_.change();
  if (!change) return {};
  FileSystem& system = *files_.files();
  // Deleted under us. A shared directory is not made again: its file system may just not be mounted.
  if (options_.root.empty() && is_gone(system.modified(files_.directory()))) {
    system.make_directory(options_.directory);
    system.make_directory(files_.directory());
  }
  if (!may_evict && !space_.has_room(bytes)) return {};
  if (!space_.make_room(bytes, dataset)) {
    note_full(bytes);
    return {};
  }
  const SegmentNonce nonce = random_nonce();
  const std::uint64_t node = index_.table().shared().node;
  LockFile::Guard owner = share_.own(nonce);
  int error = 0;
  auto segment = OpenSegment::create(files_, nonce, node, dataset, bytes, options_.root.empty(), error);
  if (segment == nullptr) {
    files_.fault(error, "create", open_segment_name(nonce, node));
    return {};
  }
  space_.took(bytes);
  return {std::move(segment), std::move(owner), Clock::now()};
}

bool DirectoryWriter::write(OpenSegment& segment, std::span<const PutRequest* const> chunks) {
  IoPool::note_progress();
  const std::size_t before = segment.chunks();
  if (const int error = segment.append(chunks); error < 0) {
    files_.fault(error, "write", open_segment_name(segment.nonce(), index_.table().shared().node));
    note_full(0);
    seal(std::move(open_.extract(segment.dataset()).mapped()), now_ns());  // what was written before is good
    note_oldest();
    return false;
  }
  open_chunks_.add(segment.file(), std::span(segment.entries()).subspan(before));
  std::uint64_t bytes = 0;
  for (const PutRequest* chunk : chunks) bytes += chunk->bytes.size();
  metrics().add(files_.id(), TierCounter::kPuts, chunks.size());
  metrics().add(files_.id(), TierCounter::kPutBytes, bytes);
  return true;
}

void DirectoryWriter::seal(Clock::time_point opened_before) {
  for (auto at = open_.begin(); at != open_.end();) {
    const auto current = at++;
    if (current->second.since < opened_before) seal(std::move(open_.extract(current).mapped()), now_ns());
  }
  note_oldest();
}

bool DirectoryWriter::seal(Open open, std::int64_t last_used_ns) {
  IoPool::note_progress();
  OpenSegment& segment = *open.segment;
  const std::vector<SegmentEntry> entries = segment.entries();
  std::uint64_t file_bytes = 0;
  int error = 0;
  std::optional<SegmentFooter> footer;
  // From before it is renamed: who counts files meanwhile, to make room, might see it under neither name, and exceed the
  // limit by it. To sync takes long; where that is asked for, other hosts write meanwhile anyway.
  std::optional<DirectoryShare::Change> change;
  if (!options_.durable) change.emplace(share_.change());
  if (!entries.empty()) footer = segment.seal(options_.durable, file_bytes, error);
  bool entered = false;
  if (footer) {
    // Without the lock: the next scan, by anyone, will enter it.
    if (!change) change.emplace(share_.change());
    entered = static_cast<bool>(*change);
    if (entered) enter(*footer, file_bytes, now_ns(), last_used_ns);
  } else if (error < 0) {
    files_.fault(error, "seal", segment_name(segment.nonce()));
  }
  open_chunks_.remove(entries);
  return entered;
}

// A killed process leaves either the small segments, or those and the merged one (all are whole): then the
// chunks that are in both are left out of the next merge.
void DirectoryWriter::merge() {
  const auto sources = segments_to_merge(index_.table().all(), options_.segment_bytes);
  if (sources.empty()) return;
  const DirectoryShare::Change merging = share_.merging();
  if (!merging) return;
  std::uint64_t bytes = 0;
  std::int64_t last_used_ns = 0;
  for (const auto& [slot, segment] : sources) {
    bytes += segment.bytes;
    last_used_ns = std::max(last_used_ns, segment.last_used_ns);
  }
  // The parts have each a head and a trailer: together they are larger than the whole.
  Open merged = create(sources.front().second.dataset, bytes, false);
  if (merged.segment == nullptr) return;
  for (const auto& [slot, segment] : sources) {
    if (!copy(segment.nonce, sources, *merged.segment)) return;
  }
  if (merged.segment->chunks() > 0 && !seal(std::move(merged), last_used_ns)) return;
  const DirectoryShare::Change change = share_.change();
  if (!change) return;
  for (const auto& [slot, segment] : sources) {
    // Somebody may have evicted it meanwhile, and the slot may be another's.
    if (const auto now = index_.table().get(slot); now && now->nonce == segment.nonce) index_.remove(slot);
    files_.files()->remove(files_.path(segment_name(segment.nonce)));
    files_.forget(segment.nonce);
  }
}

bool DirectoryWriter::copy(const SegmentNonce& from,
                           std::span<const std::pair<std::uint32_t, KnownSegment>> sources, OpenSegment& to) {
  int error = 0;
  const auto footer = files_.read_footer(from, error);
  if (!footer) return is_gone(error);  // evicted meanwhile
  const auto is_source = [&](const ChunkPlace& place) {
    return std::any_of(sources.begin(), sources.end(),
                       [&](const auto& source) { return source.second.nonce == place.segment; });
  };
  std::vector<SegmentEntry> wanted;
  for (const SegmentEntry& entry : footer->entries) {
    const ChunkPlaces places = index_.find(entry.hash);
    // It is elsewhere, too. In a shared directory another host may be about to give up that other one, and rely on this one.
    if (options_.root.empty() && !std::all_of(places.begin(), places.end(), is_source)) continue;
    wanted.push_back(entry);
  }
  return copy(from, wanted, to);
}

bool DirectoryWriter::copy(const SegmentNonce& from, std::span<const SegmentEntry> entries, OpenSegment& to) {
  int error = 0;
  const auto segment = files_.open(from, error);
  if (segment == nullptr) return is_gone(error);
  for (const SegmentEntry& entry : entries) {
    IoPool::note_progress();
    Buffer buffer(entry.length);
    const iovec piece{buffer.data(), entry.length};
    const std::int64_t got = files_.files()->read(segment->file().fd(), {&piece, 1}, entry.offset);
    if (got < 0) {
      files_.fault(static_cast<int>(got), "read", segment_name(from));
      return false;
    }
    if (got != entry.length || content_hash(buffer.bytes()) != entry.hash) {
      for (const ChunkPlace& place : index_.find(entry.hash))
        if (place.segment == from && place.offset == entry.offset && index_.erase(entry.hash, place))
          metrics().add(files_.id(), TierCounter::kCorrupt);
      continue;
    }
    const PutRequest request{entry.hash, std::move(buffer).freeze(), to.dataset()};
    const PutRequest* const chunk = &request;
    if (!to.fits(1, record_bytes(entry.length)) || to.append({&chunk, 1}) < 0) return false;
  }
  return true;
}

std::optional<std::unordered_set<ContentHash>> DirectoryWriter::copy_to_new(const SegmentFooter& from,
                                                                            std::span<const SegmentEntry> entries,
                                                                            DatasetTag dataset) {
  std::uint64_t bytes = 0;
  for (const SegmentEntry& entry : entries) bytes += record_bytes(entry.length);
  Open fresh = create(dataset, OpenSegment::segment_bytes(entries.size(), bytes), false);
  if (fresh.segment == nullptr || !copy(from.nonce, entries, *fresh.segment)) return std::nullopt;
  std::unordered_set<ContentHash> copied;
  for (const SegmentEntry& entry : fresh.segment->entries()) copied.insert(entry.hash);
  if (!copied.empty() && !seal(std::move(fresh), now_ns())) return std::nullopt;
  return copied;
}

void DirectoryWriter::note_full(std::uint64_t bytes) {
  full_for_bytes_ = bytes;
  full_until_ = Clock::now() + kFullFor;
  // A disk of the node's own may well be smaller than a dataset. What all nodes share is meant to have room.
  if (bytes == 0 || options_.root.empty() || !full_logged_.first()) return;
  if (const auto account = space_.account())
    log(LogLevel::kWarning,
        "{} tier: {} is full: {:.1f} MiB of at most {:.1f} are in use, by what live jobs need. What finds no room is not kept there; "
        "it is only counted from now on.",
        options_.name, options_.root, static_cast<double>(account->used_bytes) / (1 << 20),
        static_cast<double>(account->limit_bytes) / (1 << 20));
}

void DirectoryWriter::note_oldest() {
  Clock::time_point oldest = Clock::time_point::max();
  for (const auto& [dataset, open] : open_) oldest = std::min(oldest, open.since);
  oldest_ = oldest.time_since_epoch().count();
}

bool DirectoryWriter::has_older(Clock::time_point opened_before) const {
  return oldest_ < opened_before.time_since_epoch().count();
}

}  // namespace alnair
