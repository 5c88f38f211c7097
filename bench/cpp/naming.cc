// What it takes to say in a shared directory that the chunks of a large dataset are in use: the first time, when all their names are
// written, and again, as a manager does every ten minutes.
//
//   bench_naming DIRECTORY CHUNKS
//
// Prints seconds and CPU seconds of both, and the bytes of the file.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "cache/directory/spill_tier.h"
#include "cpu_seconds.h"

namespace {

using Clock = std::chrono::steady_clock;

std::uint64_t bytes_of_names(const std::filesystem::path& directory) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
    if (entry.path().extension() == ".names") return entry.file_size();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fputs("usage: bench_naming DIRECTORY CHUNKS\n", stderr), 2;
  const auto count = std::strtoull(argv[2], nullptr, 10);
  const auto tier = alnair::open_spill({.directories = {argv[1]}, .durability = std::chrono::hours(24), .tend_after = std::chrono::milliseconds(50)});
  const double cpu = cpu_seconds();
  const auto start = Clock::now();
  tier->name_chunks(1, 2, {[count] {
                      alnair::NamedChunks::Names names{.complete = true};
                      for (std::uint64_t i = 0; i < count; ++i) names.chunks.push_back(i * (UINT64_MAX / count));
                      return names;
                    }});
  while (bytes_of_names(argv[1]) == 0) {
    tier->tend();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const double first = std::chrono::duration<double>(Clock::now() - start).count(), first_cpu = cpu_seconds() - cpu;
  const auto again = Clock::now();
  const bool known = tier->name_again(1, 2);
  const double second = std::chrono::duration<double>(Clock::now() - again).count();
  std::printf("%llu chunks: first %.3f s, %.3f CPU s; again %.6f s (%s); %llu bytes\n", count, first, first_cpu, second,
              known ? "known" : "UNKNOWN", static_cast<unsigned long long>(bytes_of_names(argv[1])));
  return known ? 0 : 1;
}
