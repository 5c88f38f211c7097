#include "cache/tiered/landing.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace alnair {
namespace {

std::vector<Arrival> arrivals(std::size_t count, std::uint64_t bytes) {
  std::vector<Arrival> result;
  for (std::size_t i = 0; i < count; ++i) result.push_back({.flight = nullptr, .bytes = Buffer(bytes).freeze()});
  return result;
}

TEST(Landing, TakesEverythingBeforeItStops) {
  std::atomic<std::size_t> taken{0}, here{0};
  const auto caller = std::this_thread::get_id();
  Landing landing(
      [&](std::span<Arrival> batch) {
        taken += batch.size();
        if (std::this_thread::get_id() == caller) ++here;
        return false;
      },
      1 << 20);
  for (int i = 0; i < 100; ++i) landing.add(arrivals(3, 10));
  landing.stop();
  EXPECT_EQ(taken, 300U);
  EXPECT_EQ(here, 0U);
  landing.add(arrivals(2, 10));
  EXPECT_EQ(taken, 302U) << "on the calling thread";
  EXPECT_EQ(here, 1U);
}

TEST(Landing, WhatDoesNotFitTheQueueIsTakenByItsBringer) {
  std::atomic<std::size_t> taken{0};
  Landing landing(
      [&](std::span<Arrival> batch) {
        taken += batch.size();
        return false;
      },
      100);
  landing.add(arrivals(1, 101));
  EXPECT_EQ(taken, 1U);
}

TEST(Landing, WhatGathersIsTakenBeforeItStops) {
  std::atomic<std::size_t> taken{0}, batches{0};
  Landing landing(
      [&](std::span<Arrival> batch) {
        taken += batch.size();
        ++batches;
        return true;
      },
      1 << 20);
  landing.add(arrivals(1, 10));
  while (batches == 0) std::this_thread::yield();
  for (int i = 0; i < 1000; ++i) landing.add(arrivals(1, 10));
  landing.stop();
  EXPECT_EQ(taken, 1001U);
}

}  // namespace
}  // namespace alnair
