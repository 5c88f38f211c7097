// A catalog on a file system that may hang: the contract, and what a hang costs.
#include "catalog/abandonable_catalog.h"

#include <gmock/gmock.h>

#include <thread>

#include "catalog/contract.h"
#include "catalog/sqlite_catalog.h"
#include "support/nfs_like.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;  // NOLINT: the contract's helpers
using namespace std::chrono_literals;

constexpr auto kStall = 1s;

struct AbandonableBackend {
  TemporaryDirectory directory;
  std::unique_ptr<Catalog> open() const {
    return std::make_unique<AbandonableCatalog>(make_sqlite_catalog({directory.path(), false}), directory.path());
  }
};

}  // namespace

namespace testing {
INSTANTIATE_TYPED_TEST_SUITE_P(Abandonable, CatalogContract, AbandonableBackend);
}

namespace {

class HangingCatalogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    home_ = NfsLike::mount(root_ / "home", root_ / "server");
    if (home_ == nullptr) GTEST_SKIP() << "no FUSE here";
  }

  std::unique_ptr<Catalog> open() const {
    return std::make_unique<AbandonableCatalog>(make_sqlite_catalog({root_ / "home", false}), root_ / "home", kStall);
  }
  static void put(Catalog& catalog, std::uint64_t version) {
    catalog.put_manifest(record_of("dataset", version), some_blob(version, 1000));
  }

  TemporaryDirectory root_;
  std::unique_ptr<NfsLike> home_;
};

TEST_F(HangingCatalogTest, AHangMakesHashesUnknownAndTheRestAnError) {
  const auto catalog = open();
  record_numbers(*catalog, 0, 100);
  put(*catalog, 1);
  catalog->flush();
  EXPECT_EQ(count_known(*catalog, 0, 100), 100u);
  home_->command("hang");
  EXPECT_EQ(count_known(*catalog, 0, 100), 0u);
  const std::string expected = "The catalog in " + (root_ / "home") + " does not answer: its file system hangs.";
  for (int i = 0; i < 100; ++i) {  // with one wait each this would take minutes
    EXPECT_EQ(count_known(*catalog, 0, 100), 0u);
    record_numbers(*catalog, 1'000'000, 1'010'000);
    try {
      put(*catalog, 2);
      FAIL() << "no error";
    } catch (const CacheError& error) {
      EXPECT_EQ(error.what(), expected);
    }
    EXPECT_THROW(catalog->newest_manifest("dataset"), CacheError);
    EXPECT_THROW(catalog->manifest_blob(record_of("dataset", 1).version), CacheError);
  }
  catalog->flush();
  home_->command("well");
  while (count_known(*catalog, 0, 100) < 100) std::this_thread::sleep_for(5ms);  // the test's own limit ends this
  put(*catalog, 3);
  EXPECT_EQ(catalog->newest_manifest("dataset")->version, record_of("dataset", 3).version);
}

TEST_F(HangingCatalogTest, TheEndOfACatalogThatHangsIsNotWaitedFor) {
  {
    const auto catalog = open();
    record_numbers(*catalog, 0, 100);
    home_->command("hang");
  }
  auto known_to_hang = open();
  EXPECT_EQ(count_known(*known_to_hang, 0, 100), 0u);
  known_to_hang.reset();
  home_->command("well");
  const auto catalog = open();
  while (count_known(*catalog, 0, 100) < 100) std::this_thread::sleep_for(5ms);  // what was left behind was written
}

TEST_F(HangingCatalogTest, ForksDoNotWaitForItEachTime) {
  const auto catalog = open();
  put(*catalog, 1);
  home_->command("hang");
  EXPECT_THROW(catalog->newest_manifest("dataset"), CacheError);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 24; ++i) EXPECT_TRUE(in_child([&] { return true; }));
  EXPECT_LT(std::chrono::steady_clock::now() - start, 60s);  // five seconds each would be two minutes
}

}  // namespace
}  // namespace alnair
