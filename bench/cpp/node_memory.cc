// Node memory against a file each: one core, random hits, every byte checked (node memory) or read (files).
//
//   bench_node_memory [MiB of chunks, default 128] [rounds, default 7]
//
// The rounds of the two are interleaved; medians are printed, one row a chunk size.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "cache/memory/node_memory.h"
#include "cpu_seconds.h"
#include "median.h"

namespace {

using alnair::ContentHash;
using Clock = std::chrono::steady_clock;

struct Rate {
  double per_second = 0, per_cpu_second = 0;
};

// Calls `operation` for about 0.15 s.
Rate measure(const std::function<void()>& operation) {
  const double cpu = cpu_seconds();
  const auto start = Clock::now();
  double n = 0, seconds = 0;
  do {
    for (int i = 0; i < 64; ++i) operation();
    n += 64;
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  } while (seconds < 0.15);
  return {n / seconds, n / (cpu_seconds() - cpu)};
}

void fail(const std::string& what) {
  fmt::print(stderr, "{}\n", what);
  std::exit(1);
}

void run(const std::string& directory, std::uint64_t chunk_size, std::uint64_t total, int rounds) {
  alnair::NodeMemoryOptions options;
  options.directory = directory + "/memory";
  options.limit = 2 * total + (64 << 20);
  const auto memory = alnair::NodeMemory::open(options);
  const std::uint64_t count = total / chunk_size;
  std::vector<ContentHash> hashes;
  std::filesystem::create_directory(directory + "/files");
  std::mt19937_64 random(1);
  const auto file_name = [&](std::uint64_t i) { return directory + "/files/" + std::to_string(i); };
  double put_seconds = 0, write_seconds = 0;
  for (std::uint64_t i = 0; i < count; i += 64) {
    std::vector<alnair::PutRequest> requests;
    for (std::uint64_t j = i; j < std::min(i + 64, count); ++j) {
      alnair::Buffer buffer(chunk_size);
      for (std::uint64_t at = 0; at + 8 <= chunk_size; at += 8) {
        const std::uint64_t word = random();
        std::memcpy(buffer.data() + at, &word, 8);
      }
      const alnair::View bytes = std::move(buffer).freeze();
      requests.push_back({alnair::content_hash(bytes.bytes()), bytes});
      hashes.push_back(requests.back().hash);
    }
    std::vector<alnair::PutOutcome> outcomes(requests.size());
    auto start = Clock::now();
    memory->put(requests, outcomes);
    put_seconds += std::chrono::duration<double>(Clock::now() - start).count();
    for (const auto outcome : outcomes)
      if (outcome != alnair::PutOutcome::kStored) fail("a put was refused: is /dev/shm large enough?");
    start = Clock::now();
    for (std::size_t j = 0; j < requests.size(); ++j) {
      const int fd = open(file_name(i + j).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      if (write(fd, requests[j].bytes.data(), chunk_size) != static_cast<ssize_t>(chunk_size))
        fail("cannot write");
      close(fd);
    }
    write_seconds += std::chrono::duration<double>(Clock::now() - start).count();
  }
  const std::uint64_t used = memory->usage().used_bytes;
  std::vector<std::byte> target(chunk_size);
  std::vector<double> memory_rates, file_rates, memory_cpu, file_cpu;
  for (int round = 0; round < rounds; ++round) {
    const Rate hits = measure([&] {
      if (!memory->find(hashes[random() % count])) fail("a chunk is missing");
    });
    const Rate files = measure([&] {
      const int fd = open(file_name(random() % count).c_str(), O_RDONLY | O_CLOEXEC);
      if (read(fd, target.data(), chunk_size) != static_cast<ssize_t>(chunk_size)) fail("cannot read");
      close(fd);
    });
    memory_rates.push_back(hits.per_second);
    memory_cpu.push_back(hits.per_cpu_second);
    file_rates.push_back(files.per_second);
    file_cpu.push_back(files.per_cpu_second);
  }
  const double per_cpu = median(memory_cpu), file_per_cpu = median(file_cpu);
  fmt::print("{:>8} {:>11.0f} {:>11.0f} {:>12.0f} {:>12.0f} {:>7.1f} {:>10.0f} {:>10.0f} {:>9.1f}%\n",
             chunk_size, median(memory_rates), median(file_rates), per_cpu, file_per_cpu,
             per_cpu / file_per_cpu, static_cast<double>(count) / put_seconds,
             static_cast<double>(count) / write_seconds,
             100.0 * (static_cast<double>(used) / static_cast<double>(count * chunk_size) - 1));
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t total = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 128) << 20;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  fmt::print("one core, random hits on {} MiB; medians of {} interleaved rounds\n", total >> 20, rounds);
  fmt::print("{:>8} {:>11} {:>11} {:>12} {:>12} {:>7} {:>10} {:>10} {:>10}\n", "bytes", "memory/s", "files/s",
             "memory/cpu-s", "files/cpu-s", "ratio", "put/s", "write/s", "overhead");
  for (const std::uint64_t size : {800, 1024, 4096, 110'000}) {
    std::string directory = "/dev/shm/alnair-bench-XXXXXX";
    if (mkdtemp(directory.data()) == nullptr) fail("cannot make " + directory);
    run(directory, size, total, rounds);
    std::filesystem::remove_all(directory);
  }
}
