#include "http/shared_limit.h"

#include <gtest/gtest.h>

#include <vector>

namespace alnair {
namespace {

using std::chrono::milliseconds;
using Want = RequestSlots::Share::Want;

// The slots of a node, without a node.
struct Table {
  int taken = 0;
  std::vector<Want> wants;
};

class FakeShare final : public RequestSlots::Share {
 public:
  explicit FakeShare(Table& table) : table_(table), me_(table.wants.size()) { table.wants.push_back(Want::kNothing); }
  bool take(int limit) override {
    if (table_.taken >= limit) return false;
    ++table_.taken;
    ++held_;
    return true;
  }
  void give_back() override {
    --table_.taken;
    --held_;
  }
  int held() const override { return held_; }
  void want(Want what) override { table_.wants[me_] = what; }
  Want others_want() const override {
    Want most = Want::kNothing;
    for (std::size_t i = 0; i < table_.wants.size(); ++i)
      if (i != me_) most = std::max(most, table_.wants[i]);
    return most;
  }

 private:
  Table& table_;
  const std::size_t me_;
  int held_ = 0;
};

// A client that always has requests waiting, if it is busy.
struct Client {
  Client(Table& table, int limit) : shared(std::make_unique<FakeShare>(table), limit) {}
  void step(SharedLimit::Clock::time_point now) {
    if (in_flight > 0) shared.ended(--in_flight, now);  // one a step
    if (shared.look_at() && *shared.look_at() <= now) shared.look(in_flight, busy, now);
    while (busy && shared.admits(in_flight, now)) {
      ++in_flight;
      ++started;
    }
  }
  SharedLimit shared;
  bool busy = true;
  int in_flight = 0;
  int started = 0;
};

class SharedLimitTest : public ::testing::Test {
 protected:
  void pass(milliseconds time) {
    for (const auto end = now_ + time; now_ < end; now_ += milliseconds(1))
      for (Client* client : clients_) client->step(now_);
  }
  Client& add(int limit = 8) { return *clients_.emplace_back(new Client(table_, limit)); }
  ~SharedLimitTest() override {
    for (Client* client : clients_) delete client;
  }

  SharedLimit::Clock::time_point now_{std::chrono::hours(1)};
  Table table_;
  std::vector<Client*> clients_;
};

TEST_F(SharedLimitTest, AClientAloneHasAllSlotsAtOnceAndKeepsThem) {
  Client& alone = add();
  pass(milliseconds(3));
  EXPECT_EQ(alone.in_flight, 8);
  EXPECT_EQ(alone.shared.kept(), 8);
  pass(milliseconds(5000));
  EXPECT_EQ(alone.shared.kept(), 8);
}

TEST_F(SharedLimitTest, SlotsThatAreNotUsedGoBackAfterAWhile) {
  Client& client = add();
  pass(milliseconds(100));
  client.busy = false;
  pass(milliseconds(3'000));
  EXPECT_EQ(client.in_flight, 0);
  EXPECT_EQ(table_.taken, 8) << "with its connections";
  pass(milliseconds(1'500));
  EXPECT_EQ(table_.taken, 0);
  EXPECT_EQ(client.shared.kept(), 0);
  EXPECT_FALSE(client.shared.look_at()) << "nothing wakes an idle client";
}

TEST_F(SharedLimitTest, UnusedSlotsGoToWhoLacksThem) {
  Client& first = add();
  pass(milliseconds(100));
  first.busy = false;
  pass(milliseconds(20));
  Client& second = add();
  pass(milliseconds(200));
  EXPECT_EQ(second.shared.kept(), 8);
}

TEST_F(SharedLimitTest, BusyClientsComeToHoldAboutEquallyMany) {
  Client& first = add(32);
  pass(milliseconds(100));
  Client& second = add(32);
  pass(milliseconds(200));
  EXPECT_GE(second.shared.kept(), 8) << "half of what the first one had";
  pass(milliseconds(10'000));
  EXPECT_NEAR(first.shared.kept(), 16, 8);
  EXPECT_NEAR(second.shared.kept(), 16, 8);
  EXPECT_LE(first.in_flight + second.in_flight, 32);
  EXPECT_GE(first.in_flight + second.in_flight, 24) << "few slots lie idle";
}

TEST_F(SharedLimitTest, MoreClientsThanSlotsTakeTurns) {
  for (int i = 0; i < 6; ++i) add(2);
  pass(milliseconds(6'000));
  for (const Client* client : clients_) EXPECT_GE(client->started, 100);
  EXPECT_LE(table_.taken, 2);
}

TEST_F(SharedLimitTest, AClientThatGetsNoSlotSendsOneRequestASecondRegardless) {
  table_.taken = 8;  // by somebody who hangs
  Client& client = add();
  pass(milliseconds(900));
  EXPECT_EQ(client.started, 0);
  pass(milliseconds(3'000));
  EXPECT_GE(client.started, 2);
  EXPECT_LE(client.started, 4);
  table_.taken = 0;  // killed
  pass(milliseconds(50));
  EXPECT_EQ(client.shared.kept(), 8);
}

}  // namespace
}  // namespace alnair
