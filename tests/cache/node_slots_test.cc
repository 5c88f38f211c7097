#include "cache/node_slots.h"

#include <gtest/gtest.h>

#include "support/in_child.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using Want = RequestSlots::Share::Want;

class NodeSlots : public ::testing::Test {
 protected:
  std::unique_ptr<RequestSlots::Share> join() { return node_request_slots(directory_.path() + "/memory")->join(); }
  testing::TemporaryDirectory directory_;
};

TEST_F(NodeSlots, AreExclusiveWithinAProcessAndAmongProcesses) {
  const auto first = join(), second = join();
  EXPECT_TRUE(first->take(2));
  EXPECT_TRUE(second->take(2));
  EXPECT_FALSE(first->take(2));
  EXPECT_TRUE(testing::in_child([&] { return !join()->take(2) && join()->take(3); }));
  second->give_back();
  EXPECT_EQ(second->held(), 0);
  EXPECT_TRUE(testing::in_child([&] { return join()->take(2); }));
  EXPECT_TRUE(first->take(2)) << "what the child held died with it";
}

TEST_F(NodeSlots, AForkedChildHoldsNoneOfItsParents) {
  const auto share = join();
  ASSERT_TRUE(share->take(1));
  EXPECT_TRUE(testing::in_child([&] {
    share->give_back();  // frees nothing of the parent's
    return !join()->take(1);
  }));
  EXPECT_TRUE(testing::in_child([&] { return !join()->take(1); }));
}

TEST_F(NodeSlots, ShowOthersWhatIsWanted) {
  const auto first = join(), second = join();
  first->want(Want::kMore);
  EXPECT_EQ(first->others_want(), Want::kNothing) << "not one's own";
  EXPECT_EQ(second->others_want(), Want::kMore);
  EXPECT_TRUE(testing::in_child([&] {
    const auto third = join();
    third->want(Want::kMore);
    third->want(Want::kNothing);
    return third->others_want() == Want::kMore;
  }));
  second->want(Want::kFirst);
  EXPECT_EQ(first->others_want(), Want::kFirst);
  first->want(Want::kNothing);
  second->want(Want::kNothing);
  EXPECT_EQ(first->others_want(), Want::kNothing);
  EXPECT_TRUE(testing::in_child([&] { return join()->others_want() == Want::kNothing; }));
}

TEST_F(NodeSlots, ShareThatEndsGivesEverythingBack) {
  {
    const auto share = join();
    ASSERT_TRUE(share->take(1));
    share->want(Want::kMore);
  }
  const auto next = join();
  EXPECT_EQ(next->others_want(), Want::kNothing);
  EXPECT_TRUE(next->take(1));
}

TEST_F(NodeSlots, WithoutADirectoryThereIsNoShare) {
  EXPECT_EQ(node_request_slots("/proc/no/such/directory")->join(), nullptr);
}

}  // namespace
}  // namespace alnair
