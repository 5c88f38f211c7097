// What a listing costs alone: every page of a bucket, with nothing but the object source.
//
//   bench_raw_list BUCKET     endpoint and credentials from the environment
//
// Prints objects, seconds, CPU seconds.

#include <chrono>
#include <cstdio>
#include <vector>

#include "alnair/source/s3_source.h"
#include "cpu_seconds.h"

int main(int argc, char** argv) {
  if (argc != 2) return std::fputs("usage: bench_raw_list BUCKET\n", stderr), 2;
  const auto start = std::chrono::steady_clock::now();
  const auto source = alnair::open_s3_source(argv[1], {});
  std::size_t objects = 0;
  const std::string everything;
  source->list({&everything, 1}, [&](std::vector<alnair::ObjectInfo>&& page) { objects += page.size(); }, {});
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%zu %.6f %.6f\n", objects, seconds, cpu_seconds());
  return 0;
}
