// Random reads from the directory tier, against a file for each chunk and against the disk itself (random
// preads of one large file, unchecked). Each from the page cache and from the disk (caches dropped by
// fadvise), medians of interleaved runs.
//
//   bench_directory_tier [DIRECTORY [MIB]]     default: the temporary directory, 256
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cache/directory/directory_tier.h"
#include "cpu_seconds.h"

namespace {

using namespace alnair;
using Clock = std::chrono::steady_clock;

constexpr int kRuns = 5;
constexpr std::size_t kThreads = 8;  // as many as the tier reads with

void drop_cached_pages(const std::string& directory) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

void run_on_threads(std::size_t count, const std::function<void(std::size_t)>& body) {
  std::atomic<std::size_t> next{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (std::size_t i; (i = next++) < count;) body(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void write_file(const std::string& path, std::span<const std::byte> bytes, int flags = O_TRUNC) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
  if (fd < 0 || ::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
  ::close(fd);
}

void get_all(Tier& tier, std::span<const ContentHash> hashes, std::size_t batch) {
  std::mutex mutex;
  std::condition_variable changed;
  for (std::size_t at = 0; at < hashes.size(); at += batch) {
    std::size_t waiting = std::min(batch, hashes.size() - at);
    tier.get(hashes.subspan(at, waiting), [&](std::size_t, std::optional<View> view) {
      if (!view) std::abort();
      std::lock_guard lock(mutex);
      if (--waiting == 0) changed.notify_all();
    });
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return waiting == 0; });
  }
}

void bench(const std::string& directory, std::uint64_t size, std::uint64_t total) {
  const std::size_t count = total / size;
  std::vector<ContentHash> hashes;
  std::filesystem::create_directories(directory + "/files");
  DirectoryTier tier({.directory = directory + "/tier", .limit_bytes = 4 * total});
  std::mt19937_64 random(1);
  std::vector<PutRequest> requests;
  for (std::size_t i = 0; i < count; ++i) {
    Buffer buffer(size);
    for (std::uint64_t at = 0; at + 8 <= size; at += 8) {
      const std::uint64_t word = random();
      std::memcpy(buffer.data() + at, &word, sizeof word);
    }
    const View view = std::move(buffer).freeze();
    hashes.push_back(content_hash(view.bytes()));
    requests.push_back({hashes.back(), view, 1});
    if (requests.size() == 64 || i + 1 == count) {
      tier.put(requests, {});
      requests.clear();
    }
    write_file(directory + "/files/" + hashes.back().hex(), view.bytes());
    write_file(directory + "/raw", view.bytes(), O_APPEND);
  }
  tier.flush();
  ::sync();  // only clean pages can be dropped
  const int raw = ::open((directory + "/raw").c_str(), O_RDONLY | O_CLOEXEC);
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;

  const std::map<std::string, std::function<void()>> ways = {
      {"tier",
       [&] {
         std::vector<ContentHash> shuffled;
         for (const std::size_t i : order) shuffled.push_back(hashes[i]);
         get_all(tier, shuffled, 256);
       }},
      {"a file each",
       [&] {
         run_on_threads(count, [&](std::size_t i) {
           Buffer buffer(size);
           const int fd =
               ::open((directory + "/files/" + hashes[order[i]].hex()).c_str(), O_RDONLY | O_CLOEXEC);
           if (::pread(fd, buffer.data(), size, 0) != static_cast<ssize_t>(size)) std::abort();
           ::close(fd);
         });
       }},
      {"raw pread", [&] {
         run_on_threads(count, [&](std::size_t i) {
           Buffer buffer(size);
           const auto at = static_cast<off_t>(order[i] * size);
           if (::pread(raw, buffer.data(), size, at) != static_cast<ssize_t>(size)) std::abort();
         });
       }}};
  for (const bool cold : {false, true}) {
    std::map<std::string, std::vector<std::pair<double, double>>> results;  // seconds, CPU seconds
    for (int run = 0; run < kRuns; ++run) {
      for (const auto& [name, way] : ways) {
        std::shuffle(order.begin(), order.end(), random);
        if (cold) drop_cached_pages(directory);
        const double cpu = cpu_seconds();
        const auto begin = Clock::now();
        way();
        results[name].emplace_back(std::chrono::duration<double>(Clock::now() - begin).count(),
                                   cpu_seconds() - cpu);
      }
    }
    for (auto& [name, runs] : results) {
      std::sort(runs.begin(), runs.end());
      const auto& [seconds, cpu] = runs[runs.size() / 2];
      const double chunks = static_cast<double>(count);
      fmt::print("{:>7} B  {}  {:<12} {:>9.0f}/s {:>8.1f} MB/s {:>7.2f} us CPU each   (spread {:.2f})\n",
                 size, cold ? "disk      " : "page cache", name, chunks / seconds,
                 chunks * static_cast<double>(size) / seconds / 1e6, 1e6 * cpu / chunks,
                 runs.back().first / runs.front().first);
      std::fflush(stdout);
    }
  }
  ::close(raw);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string base = argc > 1 ? argv[1] : std::filesystem::temp_directory_path().string();
  const std::uint64_t total = (argc > 2 ? std::stoull(argv[2]) : 256) << 20;
  for (const std::uint64_t size : {4096, 110'000}) {
    std::string directory = base + "/alnair-bench-XXXXXX";
    if (::mkdtemp(directory.data()) == nullptr) return 1;
    bench(directory, size, total);
    std::filesystem::remove_all(directory);
  }
}
