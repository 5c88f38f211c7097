// What no live job names leaves a shared directory, whoever is killed, reads or writes meanwhile.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <set>
#include <thread>

#include "cache/directory/chunk_names.h"
#include "cache/directory/spill_tier.h"
#include "directory_support.h"
#include "hooked_file_system.h"
#include "support/redis_servers.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using namespace testing;
using namespace testing::disk;
using namespace std::chrono_literals;

NamedChunks naming(const std::vector<PutRequest>& chunks, std::size_t count, bool complete = true) {
  NamedChunks::Names names;
  for (std::size_t i = 0; i < count; ++i) names.chunks.push_back(first64(chunks[i].hash));
  std::sort(names.chunks.begin(), names.chunks.end());
  names.complete = complete;
  return {[names] { return names; }};
}

TEST(ChunkNamesTest, SurviveTheirFileAndNothingElseDoes) {
  const ChunkNames names{.dataset = 7, .keep = 90min, .chunks = {1, 5, ~std::uint64_t{0}}};
  auto bytes = encode_names(names);
  const auto decoded = decode_names(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->dataset, 7u);
  EXPECT_EQ(decoded->keep, 90min);
  EXPECT_EQ(decoded->chunks, names.chunks);
  EXPECT_TRUE(decoded->has(5));
  EXPECT_FALSE(decoded->has(6));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= std::byte{1};
    EXPECT_FALSE(decode_names(bytes)) << i;
    bytes[i] ^= std::byte{1};
    EXPECT_FALSE(decode_names(std::span(bytes).first(i)));
  }
}

TEST(ChunkNamesTest, FilesAreNamedByDatasetVersionAndNode) {
  EXPECT_EQ(names_file({1, 2}), "0000000000000001-0000000000000002.names");
  for (const NamesFile& file : {NamesFile{1, ~std::uint64_t{0}}, NamesFile{3, 4, 5}}) {
    const auto parsed = parse_names_file(names_file(file));
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->dataset, file.dataset);
    EXPECT_EQ(parsed->version, file.version);
    EXPECT_EQ(parsed->node, file.node);
  }
  for (const char* name : {"", ".names", "1-2.names", "0000000000000001-0000000000000002.segment", "000000000000000A-0000000000000002.names",
                           "0000000000000001-0000000000000002-.names", "0000000000000001_0000000000000002.names"})
    EXPECT_FALSE(parse_names_file(name)) << name;
}

class CollectorTest : public ::testing::Test {
 protected:
  SpillOptions host(int number) const {
    SpillOptions options;
    options.directories = {root_ / "nfs"};
    options.node_directory = root_ / ("node" + std::to_string(number));
    options.limit_bytes = 64u << 20;
    options.durability = 60s;
    options.tend_after = 1ms;
    options.rescan_after = 1h;  // what other hosts wrote is found because it is missed
    return options;
  }
  // As if everything in the directory had been written, and said, an hour ago.
  void age() const {
    std::error_code gone;
    for (const auto& file : files_in(root_ / "nfs"))
      if (file.extension() == ".segment" || file.extension() == ".names")
        std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - 1h, gone);
  }
  // Whether the tier comes to have so many of the chunks; looking is what makes it collect.
  static bool comes_to_have(Tier& tier, const std::vector<PutRequest>& chunks, std::size_t count) {
    return eventually([&] { return count_hits(tier, chunks) == count; });
  }
  std::size_t segments() const { return files_in(root_ / "nfs", ".segment").size(); }

  TemporaryDirectory root_{"/dev/shm"};
};

TEST_F(CollectorTest, WhatNoJobNamesGoesAndWhatOneNamesStays) {
  const auto tier = open_spill(host(1));
  const auto dead = make_chunks(20, 10'000, 1, 1), named = make_chunks(20, 10'000, 2, 2);
  count_stored(*tier, dead);
  count_stored(*tier, named);
  tier->flush();
  tier->name_chunks(2, 1, naming(named, 20));
  EXPECT_EQ(count_hits(*tier, dead), 20u) << "it is young";
  tier->usage();  // behind all that the tier has begun
  age();
  EXPECT_TRUE(comes_to_have(*tier, dead, 0));
  EXPECT_EQ(count_hits(*tier, named), 20u);
  EXPECT_EQ(segments(), 1u);
  tier->unname_chunks(2, 1);  // the job ends
  EXPECT_TRUE(eventually([&] {
    age();
    return count_hits(*tier, named) == 0 && files_in(root_ / "nfs", ".names").empty();
  }));
}

TEST_F(CollectorTest, WhatTwoNameStaysUntilBothHaveUnnamedIt) {
  const auto tier = open_spill(host(1));
  const auto chunks = make_chunks(20, 10'000, 1);
  count_stored(*tier, chunks);
  tier->flush();
  for (int user = 0; user < 2; ++user) tier->name_chunks(1, 1, naming(chunks, 20, false));
  tier->unname_chunks(1, 1);
  for (int round = 0; round < 3; ++round) {
    tier->usage();  // behind all that the tier has begun
    age();
    const auto told = files_in(root_ / "nfs", ".names");
    ASSERT_EQ(told.size(), 1u);
    const auto aged = std::filesystem::last_write_time(told.front());
    EXPECT_TRUE(eventually([&] {
      count_hits(*tier, chunks);
      return std::filesystem::last_write_time(told.front()) > aged;
    }));
  }
  EXPECT_EQ(count_hits(*tier, chunks), 20u);
}

TEST_F(CollectorTest, WhatIsNamedAgainStaysAsLongAsTheDirectoryKnowsAllOfIt) {
  const auto tier = open_spill(host(1)), other = open_spill(host(2));
  const auto chunks = make_chunks(20, 10'000, 1);
  count_stored(*tier, chunks);
  tier->flush();
  EXPECT_FALSE(tier->name_again(1, 1)) << "nobody has named it";
  other->name_chunks(1, 1, naming(chunks, 20, false));
  EXPECT_TRUE(eventually([&] { return !files_in(root_ / "nfs", ".names").empty(); }));
  EXPECT_FALSE(tier->name_again(1, 1)) << "another host knows a part";
  other->name_chunks(1, 1, naming(chunks, 20));
  EXPECT_TRUE(eventually([&] { return tier->name_again(1, 1); }));
  SpillOptions longer = host(3);
  longer.durability = 1h;
  EXPECT_FALSE(open_spill(longer)->name_again(1, 1)) << "not for so long";
  age();
  EXPECT_TRUE(tier->name_again(1, 1));
  tier->tend();
  EXPECT_EQ(count_hits(*tier, chunks), 20u);
  EXPECT_EQ(segments(), 1u);
}

TEST_F(CollectorTest, AMostlyDeadSegmentIsCopiedAndOtherHostsDoNotMissWhatWasNamed) {
  const auto one = open_spill(host(1)), two = open_spill(host(2));
  const auto chunks = make_chunks(20, 10'000, 1);
  count_stored(*one, chunks);
  one->flush();
  ASSERT_EQ(count_hits(*two, chunks), 20u);  // it knows the segment
  SpillOptions late = host(3);
  late.durability = 24h;  // collects nothing itself
  const auto three = open_spill(late);
  ASSERT_EQ(count_hits(*three, chunks), 20u);
  one->name_chunks(1, 1, naming(chunks, 5));
  age();
  EXPECT_TRUE(comes_to_have(*one, chunks, 5));
  EXPECT_LT(bytes_in(root_ / "nfs"), 100'000u);
  const std::vector<PutRequest> named(chunks.begin(), chunks.begin() + 5);
  EXPECT_EQ(count_hits(*three, named), 5u) << "at once";
}

TEST_F(CollectorTest, ASegmentThatIsHalfAliveIsLeftAsItIs) {
  const auto tier = open_spill(host(1));
  const auto chunks = make_chunks(20, 10'000, 1, 1), dead = make_chunks(5, 10'000, 2, 2);
  count_stored(*tier, chunks);
  tier->flush();
  const auto before = files_in(root_ / "nfs", ".segment");
  count_stored(*tier, dead);
  tier->flush();
  tier->name_chunks(1, 1, naming(chunks, 15));
  age();
  EXPECT_TRUE(comes_to_have(*tier, dead, 0));
  EXPECT_EQ(files_in(root_ / "nfs", ".segment"), before);
  EXPECT_EQ(count_hits(*tier, chunks), 20u);
}

TEST_F(CollectorTest, AJobOfAnotherHostKeepsItsChunksAlsoWhereRoomIsShort) {
  const auto one = open_spill(host(1));
  const auto named = make_chunks(20, 100'000, 1, 1);
  ASSERT_EQ(count_stored(*one, named), 20u);
  one->flush();
  one->name_chunks(1, 1, naming(named, 10, false));  // it has not seen them all yet
  one->name_chunks(1, 2, naming(named, 20));         // and another version
  ASSERT_TRUE(eventually([&] { return files_in(root_ / "nfs", ".names").size() == 2; }));
  for (const auto& file : files_in(root_ / "nfs", ".segment"))
    std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - 1h);
  SpillOptions tight = host(2);
  tight.limit_bytes = 3u << 20;
  const auto two = open_spill(tight);
  const auto more = make_chunks(30, 100'000, 2, 2);
  EXPECT_LT(count_stored(*two, more), 15u) << "there is no room that the job's chunks would have to make";
  EXPECT_EQ(count_hits(*two, named), 20u);
}

TEST_F(CollectorTest, WhoReliesOnADirectoryIsToldAndWhoCannotTellCollectsNothing) {
  const auto chunks = make_chunks(20, 10'000, 1), dead = make_chunks(20, 10'000, 2, 2);
  std::set<ContentHash> told;
  std::atomic<bool> listens = false;
  SpillOptions options = host(1);
  options.before_drop = [&](std::span<const ContentHash> hashes) {
    if (listens) told.insert(hashes.begin(), hashes.end());
    return listens.load();
  };
  const auto tier = open_spill(options), stranger = open_spill(host(2));
  count_stored(*tier, chunks);
  tier->flush();
  ASSERT_FALSE(tier->identity().empty());
  tier->name_chunks(1, 1, naming(chunks, 5));
  ASSERT_TRUE(eventually([&] { return files_in(root_ / "nfs", ".names").size() == 1; }));
  age();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(count_hits(*stranger, chunks), 20u);
  EXPECT_EQ(count_hits(*tier, chunks), 20u) << "nobody listens";
  listens = true;
  // A segment that is copied and cannot leave is looked at again only after a while: another one serves as well.
  count_stored(*tier, dead);
  tier->flush();
  age();
  EXPECT_TRUE(comes_to_have(*tier, dead, 0));
  for (const auto& chunk : dead) EXPECT_TRUE(told.contains(chunk.hash));
  for (std::size_t i = 0; i < 5; ++i) EXPECT_FALSE(told.contains(chunks[i].hash)) << "it is durable elsewhere";
}

TEST_F(CollectorTest, AKillAtAnyCallLosesNothingThatIsNamed) {
  const auto chunks = make_chunks(20, 10'000, 1), dead = make_chunks(20, 10'000, 2, 2);
  const std::vector<PutRequest> named(chunks.begin(), chunks.begin() + 5);
  bool killed = true;
  int step = 0;
  for (; killed; ++step) {
    std::filesystem::remove_all(root_ / "nfs");
    std::filesystem::remove_all(root_ / "node1");
    {
      const auto tier = open_spill(host(1));
      count_stored(*tier, chunks);
      count_stored(*tier, dead);
      tier->flush();
      age();
      tier->name_chunks(1, 1, naming(chunks, 5));
      ASSERT_TRUE(eventually([&] { return !files_in(root_ / "nfs", ".names").empty(); }));
    }
    const pid_t child = fork();
    if (child == 0) {
      DirectoryOptions deadly;
      deadly.root = root_ / "nfs";
      deadly.directory = deadly.root + "/alnair/default";
      deadly.node_directory = root_ / "node1";
      deadly.limit_bytes = 64u << 20;
      deadly.durable = true;
      deadly.durability = 60s;
      deadly.tend_after = 1ms;
      const auto calls = std::make_shared<std::atomic<int>>(0);
      deadly.files = std::make_shared<HookedFileSystem>([calls, step](std::string_view, const std::string&) {
        if ((*calls)++ == step) kill(getpid(), SIGKILL);
        return 0;
      });
      {
        DirectoryTier tier(deadly);
        tier.name_chunks(1, 1, naming(chunks, 5));
        count_hits(tier, named);
      }
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    killed = WIFSIGNALED(status);
    const auto other = open_spill(host(2));
    EXPECT_EQ(count_hits(*other, named), 5u) << step;
    std::filesystem::remove_all(root_ / "node2");
  }
  EXPECT_GT(step, 20);
  // And it did collect.
  EXPECT_EQ(count_hits(*open_spill(host(3)), dead), 0u);
}

TEST_F(CollectorTest, HostsThatWriteTheSameChunksWhileOneCollectsLoseNothingUntold) {
  SpillOptions options = host(1);
  std::set<ContentHash> told;  // by the writing thread alone, until the tier is gone
  std::atomic<bool> has_collected{false};
  options.before_drop = [&](std::span<const ContentHash> hashes) {
    told.insert(hashes.begin(), hashes.end());
    has_collected = true;
    return true;
  };
  constexpr std::uint64_t kBatches = 30;
  const auto batch = [](std::uint64_t number) { return make_chunks(10, 10'000, number, 1); };
  std::vector<pid_t> writers;
  for (int writer = 0; writer < 2; ++writer) {
    const pid_t child = fork();
    if (child == 0) {
      SpillOptions own = host(10 + writer);
      own.durability = 0s;  // collects nothing
      const auto tier = open_spill(own);
      for (std::uint64_t number = 0; number < kBatches; ++number) {
        const auto chunks = batch(number);  // the other one's, too
        const auto hashes = hashes_of(chunks);
        bool durable[10];
        do {
          tier->put(chunks, {});
          tier->flush();
          tier->durable(hashes, durable);
        } while (!std::all_of(std::begin(durable), std::end(durable), [](bool each) { return each; }));
        if (number % 3 == 0) age();
      }
      _exit(0);
    }
    writers.push_back(child);
  }
  {
    const auto tier = open_spill(options);
    std::size_t ended = 0;
    while (ended < writers.size()) {
      count_hits(*tier, batch(ended));
      for (pid_t& writer : writers) {
        int status = 0;
        if (writer == 0 || waitpid(writer, &status, WNOHANG) != writer) continue;
        EXPECT_EQ(status, 0);
        writer = 0;
        ++ended;
      }
      std::this_thread::sleep_for(1ms);
    }
    EXPECT_TRUE(eventually([&] {  // at the latest now
      age();
      count_hits(*tier, batch(0));
      return has_collected.load();
    }));
  }
  SpillOptions last = host(20);
  last.durability = 0s;
  const auto fresh = open_spill(last);
  for (std::uint64_t number = 0; number < kBatches; ++number)
    for (const auto& chunk : batch(number))
      EXPECT_TRUE(count_hits(*fresh, {&chunk, 1}) == 1 || told.contains(chunk.hash)) << number;
}

}  // namespace
}  // namespace alnair
