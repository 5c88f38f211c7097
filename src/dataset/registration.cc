#include "dataset/registration.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "alnair/core/error.h"
#include "alnair/core/hash.h"
#include "core/wall_clock.h"
#include "dataset/key_entries.h"
#include "dataset/run_record.h"

namespace alnair {
namespace {

constexpr std::size_t kMaxName = 1024;  // bytes; thousands of entries are named by their hash

std::vector<ObjectInfo> list_objects(ObjectSource& source, const DatasetOptions& options,
                                     const std::vector<std::string>& scope, std::vector<std::string>& warnings,
                                     const ListProgress& progress, const Interrupt& interrupt) {
  KeySelection selection = resolve_key_entries(source, scope, options.keys, warnings, interrupt);
  std::vector<ObjectInfo> objects = std::move(selection.objects);
  std::uint64_t bytes = 0;
  for (const auto& object : objects) bytes += object.size;
  auto reported = std::chrono::steady_clock::time_point();
  const auto add_page = [&](std::vector<ObjectInfo>&& page) {
    for (auto& object : page) {
      if (object.size == 0 && object.key.ends_with('/')) continue;  // a folder's marker is no sample
      bytes += object.size;
      objects.push_back(std::move(object));
    }
    const auto now = std::chrono::steady_clock::now();
    if (!progress || now - reported < std::chrono::milliseconds(100)) return;
    reported = now;
    progress(objects.size(), bytes);
  };
  if (!selection.prefixes.empty()) source.list(selection.prefixes, add_page, interrupt);
  if (objects.empty()) throw NotFoundError(fmt::format("{} has no objects to read", source.identity()));
  if (progress) progress(objects.size(), bytes);
  return objects;
}

std::shared_ptr<const Manifest> open_known(Node& node, const std::string& version) {
  if (!node.share_directory.empty())
    if (auto manifest = Manifest::open_shared(version, node.share_directory)) return manifest;
  const auto blob = node.catalog == nullptr ? std::nullopt : node.catalog->manifest_blob(version);
  return blob ? Manifest::decode(*blob, node.share_directory) : nullptr;
}

void keep_manifest(Node& node, Registration& registration, std::span<const std::byte> blob) {
  if (node.catalog == nullptr) return;
  try {
    node.catalog->put_manifest({.dataset = registration.dataset,
                                .version = registration.manifest->version(),
                                .registered_ms = milliseconds_now(),
                                .objects = registration.manifest->size(),
                                .bytes = registration.manifest->total_bytes()},
                               blob);
  } catch (const CacheError& error) {  // the cache only saves work
    registration.warnings.push_back(fmt::format("the manifest could not be kept: {}", error.what()));
  }
}

// Exactly `options.version`.
void open_version(Node& node, const ObjectSource& source, const DatasetOptions& options, Registration& result) {
  result.manifest = open_known(node, options.version);
  if (result.manifest != nullptr) return;
  if (options.manifest == nullptr)
    throw NotFoundError(fmt::format("no manifest {} is known here; open the dataset without a version to list {}",
                                    options.version, source.identity()));
  auto manifest = Manifest::decode(*options.manifest, node.share_directory);
  if (manifest->version() != options.version)
    throw CacheError(
        fmt::format("the manifest that was given is version {}, not {}", manifest->version(), options.version));
  result.manifest = std::move(manifest);
  keep_manifest(node, result, *options.manifest);
}

// The newest version: by listing, or without refresh the newest that is known here.
void open_newest(Node& node, ObjectSource& source, const DatasetOptions& options, const std::vector<std::string>& scope,
                 const ListProgress& progress, const Interrupt& interrupt, Registration& result) {
  std::optional<ManifestRecord> newest;
  try {
    if (node.catalog != nullptr) newest = node.catalog->newest_manifest(result.dataset);
  } catch (const CacheError&) {  // a full disk, say: listing does without, and keep_manifest() tells
    if (!options.refresh) throw;
  }
  if (!options.refresh) {
    if (newest) result.manifest = open_known(node, newest->version);
    if (result.manifest == nullptr)
      throw NotFoundError(
          fmt::format("no manifest of {} is known here yet; open it once with refresh, which lists it", source.identity()));
    return;
  }
  auto objects = list_objects(source, options, scope, result.warnings, progress, interrupt);
  const auto blob = Manifest::encode(std::move(objects));
  result.manifest = Manifest::decode(blob, node.share_directory);
  if (!newest || newest->version != result.manifest->version()) keep_manifest(node, result, blob);
}

}  // namespace

// Equal selections have equal names, whatever the order of their entries.
std::string dataset_name(const ObjectSource& source, std::vector<std::string> scope, std::vector<std::string> keys) {
  std::string name = source.identity();
  for (auto* entries : {&scope, &keys}) {
    std::sort(entries->begin(), entries->end());
    name += '\n';
    for (const auto& entry : *entries) name += fmt::format("{}:{}", entry.size(), entry);
  }
  if (name.size() > kMaxName)
    name = fmt::format("{}\n#{}", source.identity(), content_hash(std::as_bytes(std::span(name))).hex());
  return name;
}

DatasetTag dataset_tag(const std::string& dataset) {
  Hasher hasher;
  hasher.update_field(dataset);
  return first64(hasher.finish()) | 1;
}

Registration register_dataset(Node& node, ObjectSource& source, const DatasetOptions& options,
                              const std::vector<std::string>& scope, const ListProgress& progress,
                              const Interrupt& interrupt) {
  Registration result;
  result.dataset = dataset_name(source, scope, options.keys);
  if (!options.version.empty()) {
    open_version(node, source, options, result);
    return result;
  }
  if (options.run.empty()) {
    open_newest(node, source, options, scope, progress, interrupt, result);
    return result;
  }
  const RunRecord record(node, options.run, result.dataset);
  const auto open_recorded = [&] {
    const std::string version = record.version();
    try {
      if (!version.empty()) result.manifest = open_known(node, version);
    } catch (const CacheError&) {  // what cannot be read is listed
    }
    return result.manifest != nullptr;
  };
  if (open_recorded()) return result;
  const auto turn = record.wait_for_turn(interrupt);
  if (open_recorded()) return result;  // found out by whoever had the turn
  open_newest(node, source, options, scope, progress, interrupt, result);
  record.write(result.manifest->version());
  return result;
}

}  // namespace alnair
