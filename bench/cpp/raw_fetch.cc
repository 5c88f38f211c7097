// The raw rate: every object of a source once, in random order, with nothing but the object source.
//
//   bench_raw_fetch BUCKET MAX_CONNECTIONS     endpoint and credentials from the environment
//
// Prints objects, bytes, seconds, CPU seconds; listing and start-up are in neither time.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <random>
#include <vector>

#include "alnair/source/s3_source.h"
#include "cpu_seconds.h"

int main(int argc, char** argv) {
  if (argc != 3) return std::fputs("usage: bench_raw_fetch BUCKET MAX_CONNECTIONS\n", stderr), 2;
  alnair::S3Options options;
  options.max_connections = std::atoi(argv[2]);
  const auto source = alnair::open_s3_source(argv[1], options);
  std::vector<alnair::ObjectInfo> objects;
  const std::string everything;
  source->list({&everything, 1},
               [&](std::vector<alnair::ObjectInfo>&& page) { objects.insert(objects.end(), page.begin(), page.end()); }, {});
  std::shuffle(objects.begin(), objects.end(), std::mt19937(1));

  std::mutex mutex;
  std::condition_variable changed;
  std::size_t done = 0, failed = 0;
  unsigned long long bytes = 0;
  const double cpu_before = cpu_seconds();
  const auto start = std::chrono::steady_clock::now();
  for (const auto& object : objects) {
    source->read({object, 0, object.size}, [&](alnair::ReadResult result) {
      const std::lock_guard lock(mutex);
      bytes += result.bytes.size();
      failed += result.error != nullptr;
      if (++done == objects.size()) changed.notify_one();
    });
  }
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done == objects.size(); });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double cpu = cpu_seconds() - cpu_before;
  std::printf("%zu %llu %.6f %.6f\n", objects.size(), bytes, seconds, cpu);
  return failed == 0 ? 0 : 1;
}
