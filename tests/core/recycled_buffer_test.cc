#include "core/recycled_buffer.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

namespace alnair {
namespace {

RecycledBuffer filled(std::uint64_t size, int value) {
  RecycledBuffer buffer(size);
  std::memset(buffer.data(), value, size);
  return buffer;
}

bool is_all(const View& view, int value) {
  return std::ranges::all_of(view.bytes(), [&](std::byte byte) { return byte == static_cast<std::byte>(value); });
}

// Sizes around those from which on blocks are used again.
const std::vector<std::uint64_t> kSizes = {0,         1,         (32 << 10) - 1, 32 << 10,       (32 << 10) + 1, 40'000,
                                           110'000,   (1 << 20), (1 << 20) + 1,  (8 << 20) - 1, 8 << 20,        (8 << 20) + 1};

TEST(RecycledBuffer, AViewKeepsItsBytesWhileBlocksAreUsedAgain) {
  std::vector<View> held;
  for (int round = 0; round < 3; ++round)
    for (const std::uint64_t size : kSizes) {
      View view = filled(size, round + 1).freeze();
      EXPECT_EQ(view.size(), size);
      held.push_back(view.part(0, size / 2));  // outlives `view`
      filled(size, 99);                        // given back at once
    }
  for (std::size_t i = 0; i < held.size(); ++i)
    EXPECT_TRUE(is_all(held[i], static_cast<int>(i / kSizes.size()) + 1)) << "view " << i;
}

TEST(RecycledBuffer, IsUsedByManyThreads) {
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread)
    threads.emplace_back([thread] {
      View last;
      for (int round = 0; round < 300; ++round) {
        View view = filled(kSizes[static_cast<std::size_t>(round) % 10], 10 * thread + round % 7).freeze();
        EXPECT_TRUE(is_all(view, 10 * thread + round % 7));
        last = std::move(view);
      }
    });
  for (auto& thread : threads) thread.join();
}

TEST(RecycledBuffer, AForkedChildHasItsOwn) {
  { RecycledBuffer kept = filled(110'000, 1); }
  const pid_t child = fork();
  if (child == 0) {
    RecycledBuffer mine = filled(110'000, 2);
    _exit(is_all(std::move(mine).freeze(), 2) ? 0 : 1);
  }
  View view = filled(110'000, 3).freeze();
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(is_all(view, 3));
}

}  // namespace
}  // namespace alnair
