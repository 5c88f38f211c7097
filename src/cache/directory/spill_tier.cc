#include "cache/directory/spill_tier.h"

#include <fmt/format.h>

#include <algorithm>

#include "alnair/core/error.h"

namespace alnair {
namespace {

// Rendezvous hashing: every directory bids for a chunk, and the highest bid wins. So a directory more or less moves only the
// chunks that it wins or loses, and the order in which directories are named does not matter.
class SpreadTier : public DurableTier {
 public:
  struct Place {
    std::uint64_t name;  // hash of the directory's
    std::shared_ptr<DurableTier> tier;
  };
  explicit SpreadTier(std::vector<Place> places) : places_(std::move(places)) {}

  std::string_view name() const override { return places_.front().tier->name(); }

  void get(std::span<const ContentHash> hashes, Found found) override {
    const auto shared = std::make_shared<const Found>(std::move(found));
    const Parts parts = split(hashes.size(), [&](std::size_t i) { return hashes[i]; });
    for (std::size_t place = 0; place < places_.size(); ++place) {
      if (parts[place].empty()) continue;
      std::vector<ContentHash> wanted;
      for (const std::size_t i : parts[place]) wanted.push_back(hashes[i]);
      places_[place].tier->get(wanted, [shared, part = parts[place]](std::size_t i, std::optional<View> view) {
        (*shared)(part[i], std::move(view));
      });
    }
  }

  void contains(std::span<const ContentHash> hashes, std::span<bool> present) override {
    for (std::size_t i = 0; i < hashes.size(); ++i)
      places_[place_of(hashes[i])].tier->contains(hashes.subspan(i, 1), present.subspan(i, 1));
  }

  void put(std::span<const PutRequest> requests, std::span<PutOutcome> outcomes) override {
    const Parts parts = split(requests.size(), [&](std::size_t i) { return requests[i].hash; });
    for (std::size_t place = 0; place < places_.size(); ++place) {
      if (parts[place].empty()) continue;
      std::vector<PutRequest> part;
      for (const std::size_t i : parts[place]) part.push_back(requests[i]);
      std::vector<PutOutcome> results(part.size(), PutOutcome::kRefused);
      places_[place].tier->put(part, results);
      for (std::size_t i = 0; i < part.size() && !outcomes.empty(); ++i) outcomes[parts[place][i]] = results[i];
    }
  }

  void hold_dataset(DatasetTag dataset) override {
    for (const Place& place : places_) place.tier->hold_dataset(dataset);
  }
  void release_dataset(DatasetTag dataset) override {
    for (const Place& place : places_) place.tier->release_dataset(dataset);
  }
  void erase(const ContentHash& hash) override { places_[place_of(hash)].tier->erase(hash); }
  void flush() override {
    for (const Place& place : places_) place.tier->flush();
  }
  void durable(std::span<const ContentHash> hashes, std::span<bool> durable) override {
    const Parts parts = split(hashes.size(), [&](std::size_t i) { return hashes[i]; });
    for (std::size_t place = 0; place < places_.size(); ++place) {
      std::vector<ContentHash> part;
      for (const std::size_t i : parts[place]) part.push_back(hashes[i]);
      const std::unique_ptr<bool[]> results(new bool[part.size()]);
      if (!part.empty()) places_[place].tier->durable(part, {results.get(), part.size()});
      for (std::size_t i = 0; i < part.size(); ++i) durable[parts[place][i]] = results[i];
    }
  }
  void name_chunks(DatasetTag dataset, std::uint64_t version, NamedChunks names) override {
    for (const Place& place : places_) place.tier->name_chunks(dataset, version, names);
  }
  void unname_chunks(DatasetTag dataset, std::uint64_t version) override {
    for (const Place& place : places_) place.tier->unname_chunks(dataset, version);
  }
  bool name_again(DatasetTag dataset, std::uint64_t version) override {
    bool all = true;
    for (const Place& place : places_) all &= place.tier->name_again(dataset, version);
    return all;
  }
  void tend() override {
    for (const Place& place : places_) place.tier->tend();
  }
  bool knows_all() override {
    return std::all_of(places_.begin(), places_.end(), [](const Place& place) { return place.tier->knows_all(); });
  }
  std::string identity() override {
    std::vector<std::string> all;
    for (const Place& place : places_) all.push_back(place.tier->identity());
    std::sort(all.begin(), all.end());
    if (all.front().empty()) return "";
    return fmt::format("{}", fmt::join(all, "+"));
  }
  TierUsage usage() const override {
    TierUsage sum;
    for (const Place& place : places_) {
      const TierUsage usage = place.tier->usage();
      sum.used_bytes += usage.used_bytes;
      sum.limit_bytes += usage.limit_bytes;
      sum.chunks += usage.chunks;
    }
    return sum;
  }

 private:
  using Parts = std::vector<std::vector<std::size_t>>;  // for each place, the indices of what belongs there

  std::size_t place_of(const ContentHash& hash) const {
    const auto bid = [&](const Place& place) { return checksum64(std::as_bytes(std::span(hash.bytes)), place.name); };
    return static_cast<std::size_t>(
        std::max_element(places_.begin(), places_.end(),
                         [&](const Place& a, const Place& b) { return bid(a) < bid(b); }) -
        places_.begin());
  }
  template <typename HashOf>
  Parts split(std::size_t count, const HashOf& hash_of) const {
    Parts parts(places_.size());
    for (std::size_t i = 0; i < count; ++i) parts[place_of(hash_of(i))].push_back(i);
    return parts;
  }

  const std::vector<Place> places_;
};

}  // namespace

std::shared_ptr<DurableTier> open_spill(const SpillOptions& options) {
  if ((options.mode & 0700) != 0700 || options.mode > 07777)
    throw ConfigError(fmt::format("spill_mode: expected an octal mode that gives the owner all (0700, 2770), not {:o}",
                                  options.mode));
  std::vector<SpreadTier::Place> places;
  for (std::string root : options.directories) {
    while (root.size() > 1 && root.back() == '/') root.pop_back();
    if (!root.starts_with('/'))
      throw ConfigError(fmt::format("spill: expected absolute directories, not \"{}\"", root));
    const std::uint64_t name = checksum64(std::as_bytes(std::span(root)));
    if (std::any_of(places.begin(), places.end(), [&](const auto& place) { return place.name == name; }))
      throw ConfigError(fmt::format("spill: {} is named twice", root));
    DirectoryOptions directory;
    directory.root = root;
    directory.mode = options.mode;
    directory.directory = root + "/" + options.key_namespace + "/" + options.domain;
    directory.node_directory = options.node_directory;
    directory.limit_bytes = options.limit_bytes;
    directory.eviction = options.eviction;
    directory.durable = true;
    directory.before_drop = options.before_drop;
    directory.id = TierId::kSpill;
    directory.name = "spill";
    directory.stall_limit = options.stall_limit;
    directory.files = options.files;
    directory.rescan_after = options.rescan_after;
    directory.relist_after = options.relist_after;
    directory.durability = options.durability;
    directory.tend_after = options.tend_after;
    places.push_back({name, std::make_shared<DirectoryTier>(std::move(directory))});
  }
  if (places.empty()) throw ConfigError("spill: no directory is named");
  if (places.size() == 1) return places.front().tier;
  return std::make_shared<SpreadTier>(std::move(places));
}

}  // namespace alnair
