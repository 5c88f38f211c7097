// A million objects from a local fake lister: list, encode, diff, open. CPU seconds over listing alone, bytes
// an object, and the time to open a known dataset by each way.
//
//   bench_manifest [objects] [rounds]
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "alnair/catalog/catalog.h"
#include "alnair/dataset/manifest.h"
#include "cpu_seconds.h"
#include "dataset/manifest/diff.h"
#include "dataset/manifest/encoder.h"

namespace alnair {
namespace {

struct Cost {
  double cpu = 0;   // seconds
  double wall = 0;  // seconds
};

Cost now() {
  return {cpu_seconds(),
          std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count()};
}

template <typename Work>
Cost measure(Work&& work) {
  const Cost begin = now();
  work();
  const Cost end = now();
  return {end.cpu - begin.cpu, end.wall - begin.wall};
}

Cost median(std::vector<Cost> costs) {
  const auto middle = costs.begin() + static_cast<std::ptrdiff_t>(costs.size() / 2);
  Cost result;
  std::ranges::nth_element(costs, middle, {}, &Cost::cpu);
  result.cpu = middle->cpu;
  std::ranges::nth_element(costs, middle, {}, &Cost::wall);
  result.wall = middle->wall;
  return result;
}

// Pages as S3 gives them: 1,000 objects each, in order, from 16 prefixes that are listed side by side. One
// object in `changed` has another ETag than with changed == 0.
std::vector<ObjectInfo> list(std::uint64_t count, std::uint64_t changed) {
  constexpr std::uint64_t kPrefixes = 16, kPage = 1000;
  std::mt19937_64 random(1);
  std::vector<ObjectInfo> objects;
  objects.reserve(count);
  const std::uint64_t per_prefix = count / kPrefixes;
  for (std::uint64_t begin = 0; begin < per_prefix; begin += kPage)
    for (std::uint64_t prefix = 0; prefix < kPrefixes; ++prefix)
      for (std::uint64_t i = begin; i < std::min(begin + kPage, per_prefix); ++i) {
        const std::uint64_t number = prefix * per_prefix + i;
        const std::uint64_t synset = 1'440'764 + number / 1300 * 137;
        ObjectInfo object;
        object.key =
            fmt::format("train/n{:08}/n{:08}_{:05}.JPEG", synset, synset, number % 1300 * 11 + synset % 10);
        object.size = 60'000 + random() % 100'000;
        object.etag = fmt::format("{:016x}{:016x}", random(), random());
        if (changed != 0 && number % changed == 0) object.etag[0] = object.etag[0] == '0' ? '1' : '0';
        object.last_modified_ms =
            static_cast<std::int64_t>(1'700'000'000 + number / 300 + random() % 3) * 1000;
        objects.push_back(std::move(object));
      }
  return objects;
}

struct Measured {
  std::vector<Cost> listing, sorting, encoding, compressing, decoding, diffing;
  std::vector<Cost> open_shared, open_known, open_blob, by_key, by_index;
  double on_disk = 0, beside_keys = 0, in_memory = 0;  // bytes an object
};

void measure_round(std::uint64_t count, const std::string& shared, const std::string& catalog_directory,
                   Measured& out) {
  std::vector<ObjectInfo> objects;
  out.listing.push_back(measure([&] { objects = list(count, 100); }));
  out.sorting.push_back(measure([&] { manifest::sort_objects(objects); }));
  std::vector<std::byte> body, blob;
  out.encoding.push_back(measure([&] { body = manifest::encode_body(objects); }));
  out.compressing.push_back(measure([&] { blob = manifest::compress_body(body); }));

  // The same objects with keys that take no bytes to speak of: what is left is beside the keys.
  for (std::uint64_t i = 0; i < objects.size(); ++i) objects[i].key = std::string(1 + i % 2, 'a');
  const auto keyless = manifest::compress_body(manifest::encode_body(objects));
  const double n = static_cast<double>(objects.size());
  out.on_disk = static_cast<double>(blob.size()) / n;
  out.beside_keys = static_cast<double>(keyless.size()) / n;
  out.in_memory = static_cast<double>(body.size()) / n;

  const auto before = Manifest::decode(Manifest::encode(list(count, 0)), "");
  std::shared_ptr<const Manifest> after;
  out.decoding.push_back(measure([&] { after = Manifest::decode(blob, shared); }));
  out.diffing.push_back(measure([&] { diff_manifests(*before, *after); }));
  out.open_shared.push_back(measure([&] { Manifest::open_shared(after->version(), shared); }));

  open_sqlite_catalog(catalog_directory)->put_manifest({"bench", after->version(), 0, count, 0}, blob);
  out.open_known.push_back(measure([&] {
    const auto record = open_sqlite_catalog(catalog_directory)->newest_manifest("bench");
    Manifest::open_shared(record->version, shared);
  }));
  std::filesystem::remove_all(shared);
  std::filesystem::create_directory(shared);
  out.open_blob.push_back(measure([&] {
    const auto catalog = open_sqlite_catalog(catalog_directory);
    const auto record = catalog->newest_manifest("bench");
    Manifest::decode(*catalog->manifest_blob(record->version), shared);
  }));

  std::mt19937_64 random(3);
  std::vector<std::string> wanted;
  for (int i = 0; i < 100'000; ++i) wanted.push_back(after->key(random() % after->size()));
  out.by_key.push_back(measure([&] {
    for (const std::string& key : wanted)
      if (!after->find(key)) std::abort();
  }));
  out.by_index.push_back(measure([&] {
    for (int i = 0; i < 100'000; ++i)
      if (after->object(random() % after->size()).size == 0) std::abort();
  }));
}

void print_row(const std::string& what, const Cost& cost) {
  fmt::print("| {:<52} | {:>8.1f} | {:>8.1f} |\n", what, cost.cpu * 1e3, cost.wall * 1e3);
}

void run(std::uint64_t count, int rounds) {
  const std::string shared = fmt::format("/dev/shm/alnair-bench-{}", getpid());
  const std::string catalog_directory =
      fmt::format("{}/alnair-bench-{}", std::filesystem::temp_directory_path().string(), getpid());
  Measured measured;
  for (int round = 0; round < rounds; ++round) {
    std::filesystem::create_directory(shared);
    measure_round(count, shared, catalog_directory, measured);
    std::filesystem::remove_all(shared);
    std::filesystem::remove_all(catalog_directory);
  }
  fmt::print("{} objects, medians of {} rounds\n\n", count, rounds);
  fmt::print("| {:<52} | {:>8} | {:>8} |\n|---|--:|--:|\n", "step", "CPU ms", "wall ms");
  print_row("list (the fake lister alone)", median(measured.listing));
  Cost over;
  for (const auto& [what, costs] : {std::pair{"sort", &measured.sorting},
                                    {"encode the columns", &measured.encoding},
                                    {"hash and compress", &measured.compressing},
                                    {"decode into the shared file", &measured.decoding},
                                    {"diff with the version before", &measured.diffing}}) {
    const Cost cost = median(*costs);
    print_row(what, cost);
    over = {over.cpu + cost.cpu, over.wall + cost.wall};
  }
  print_row("all of it, over listing (target: 2,000 CPU ms)", over);
  print_row("open: shared file", median(measured.open_shared));
  print_row("open: catalog, shared file (target: 50 ms)", median(measured.open_known));
  print_row("open: catalog, blob (target: 50 ms)", median(measured.open_blob));
  print_row("100,000 objects by key", median(measured.by_key));
  print_row("100,000 objects by index", median(measured.by_index));
  fmt::print(
      "\nBytes an object: {:.1f} on disk, of which {:.1f} beside the keys (target: 24); {:.1f} in memory\n",
      measured.on_disk, measured.beside_keys, measured.in_memory);
}

}  // namespace
}  // namespace alnair

int main(int argc, char** argv) {
  alnair::run(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000, argc > 2 ? std::atoi(argv[2]) : 5);
  return 0;
}
