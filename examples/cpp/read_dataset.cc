// Reads every object of a dataset through the cache, twice, and says where the bytes came from.
//
//   read_dataset s3://bucket/path [KEY...]      KEY: prefixes or keys that narrow it
//   read_dataset file:///directory
//
// S3's endpoint, region and credentials are found as the AWS command line finds them. The cache is the one of
// this user on this node (docs/configuration.md), so a second run of the program fetches nothing.
#include <alnair/core/error.h>
#include <alnair/core/stats.h>
#include <alnair/dataset/dataset.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace {

constexpr std::uint64_t kBatch = 256;

double megabytes(double bytes) { return bytes / 1e6; }

// Reads the whole dataset in its order, a batch at a time, while the prefetcher works ahead.
void read_epoch(alnair::Dataset& dataset, int epoch) {
  const auto before = alnair::stats();
  const auto gained = [&](const char* name, const std::map<std::string, double>& after) {
    return after.at(name) - before.at(name);
  };
  const auto start = std::chrono::steady_clock::now();

  std::vector<std::uint64_t> order(dataset.manifest().size());
  std::iota(order.begin(), order.end(), 0);
  dataset.prefetch(order);
  std::uint64_t bytes = 0;
  for (std::uint64_t next = 0; next < order.size(); next += kBatch) {
    const std::uint64_t count = std::min<std::uint64_t>(kBatch, order.size() - next);
    for (const alnair::Sample& sample : dataset.read_batch(std::span(order).subspan(next, count))) {
      if (sample.error) std::rethrow_exception(sample.error);
      bytes += sample.bytes.size();  // the bytes stay valid as long as the view is held
    }
    dataset.prefetch_advance(next + count);
  }

  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const auto after = alnair::stats();
  std::printf(
      "pass %d: %.1f MB in %.2f s, %.0f GETs; from the source %.1f MB, disk %.1f MB, memory %.1f MB\n", epoch,
      megabytes(static_cast<double>(bytes)), elapsed.count(), gained("s3_get_object", after),
      megabytes(gained("source_hit_bytes", after)), megabytes(gained("disk_hit_bytes", after)),
      megabytes(gained("memory_hit_bytes", after)));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s s3://bucket/path|file:///directory [KEY...]\n", argv[0]);
    return 2;
  }
  try {
    alnair::DatasetOptions options;
    options.source = argv[1];
    options.keys.assign(argv + 2, argv + argc);
    const auto dataset = alnair::Dataset::open(options);
    for (const std::string& warning : dataset->warnings())
      std::fprintf(stderr, "warning: %s\n", warning.c_str());
    std::printf(
        "%llu objects, %.1f MB, version %s\n", static_cast<unsigned long long>(dataset->manifest().size()),
        megabytes(static_cast<double>(dataset->manifest().total_bytes())), dataset->version().c_str());
    for (int epoch = 1; epoch <= 2; ++epoch) read_epoch(*dataset, epoch);
    dataset->flush();
    return 0;
  } catch (const alnair::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
