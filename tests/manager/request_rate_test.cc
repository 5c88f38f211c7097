#include "manager/service/request_rate.h"

#include <gmock/gmock.h>

#include <future>

#include "alnair/core/error.h"
#include "support/map_source.h"

namespace alnair::manager {
namespace {

using namespace std::chrono_literals;

TEST(RequestRate, ASecondsWorthGoesAtOnceAndTheRestInTurn) {
  RequestRate rate;
  rate.set(10);
  const RequestRate::Time start{1000s};
  for (int i = 0; i < 10; ++i) EXPECT_EQ(rate.reserve(start), start) << i;
  EXPECT_EQ(rate.reserve(start), start + 100ms);
  EXPECT_EQ(rate.reserve(start), start + 200ms);
  EXPECT_EQ(rate.reserve(start + 10s), start + 10s);  // what was not used is worth a second, and no more
  for (int i = 0; i < 9; ++i) rate.reserve(start + 10s);
  EXPECT_EQ(rate.reserve(start + 10s), start + 10s + 100ms);
}

TEST(RequestRate, NoneIsNoLimit) {
  RequestRate rate;
  const RequestRate::Time start{1000s};
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(rate.reserve(start), start);
}

TEST(RequestRate, ReadsWaitForTheirTurnAndCanBeCancelledMeanwhile) {
  const auto rate = std::make_shared<RequestRate>();
  const auto inner = std::make_shared<alnair::testing::MapSource>();
  inner->put("a", "bytes");
  const auto source = limited_source(inner, rate);
  const ReadRequest request{.object = *source->stat("a", {}), .offset = 0, .length = 5};
  const auto read = [&] {
    auto done = std::make_shared<std::promise<ReadResult>>();
    auto pending = source->read(request, [done](ReadResult result) { done->set_value(std::move(result)); });
    return std::pair(done->get_future(), pending);
  };
  rate->set(1);
  auto first = read(), second = read(), third = read();
  third.second->cancel();
  EXPECT_THROW(std::rethrow_exception(third.first.get().error), CancelledError);
  EXPECT_EQ(first.first.get().bytes.text(), "bytes");
  EXPECT_EQ(second.first.get().bytes.text(), "bytes");
}

}  // namespace
}  // namespace alnair::manager
