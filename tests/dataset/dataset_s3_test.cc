// Datasets over S3, in several processes at once and under a server's faults: one fetch a chunk, counted by the
// server, and the object's bytes always.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <numeric>
#include <random>
#include <thread>

#include "alnair/core/error.h"
#include "alnair/dataset/dataset.h"
#include "support/fake_s3.h"
#include "support/s3_reads.h"
#include "support/temporary_directory.h"

namespace alnair {
namespace {

using testing::FakeS3;
using testing::Reply;

constexpr int kObjects = 120;

class DatasetS3 : public ::testing::Test {
 protected:
  DatasetS3() {
    for (int i = 0; i < kObjects; ++i) {
      contents_.push_back(testing::random_bytes(100 + static_cast<std::size_t>(i) * 97));
      s3_.put("data/" + std::to_string(1000 + i), contents_.back());
    }
  }

  DatasetOptions options() {
    DatasetOptions result;
    result.source = "s3://" + s3_.bucket();
    result.s3 = s3_.options();
    result.s3.hedging = false;
    result.cache.cache_dir = disk_ / "cache";
    result.cache.memory_dir = memory_ / "memory";
    result.cache.memory_limit = 64 << 20;
    result.cache.disk_limit = 64 << 20;
    return result;
  }

  // Reads everything in some order, in batches. Whether every sample was right.
  bool read_all_right(Dataset& dataset, unsigned seed, bool prefetch) {
    std::vector<std::uint64_t> order(kObjects);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    if (prefetch) dataset.prefetch(order);
    for (std::size_t begin = 0; begin < order.size(); begin += 16) {
      const std::span<const std::uint64_t> batch(order.data() + begin, std::min<std::size_t>(16, order.size() - begin));
      const auto samples = dataset.read_batch(batch);
      for (std::size_t i = 0; i < batch.size(); ++i)
        if (samples[i].error || samples[i].bytes.text() != contents_[batch[i]]) return false;
      dataset.prefetch_advance(begin + batch.size());
    }
    return true;
  }

  pid_t fork_reader(Dataset& dataset, unsigned seed, bool prefetch) {
    const pid_t child = fork();
    if (child == 0) _exit(read_all_right(dataset, seed, prefetch) ? 0 : 1);
    return child;
  }

  static int status_of(pid_t child) {
    int status = -1;
    waitpid(child, &status, 0);
    return status;
  }

  FakeS3 s3_;
  std::vector<std::string> contents_;
  testing::TemporaryDirectory disk_;
  testing::TemporaryDirectory memory_{"/dev/shm"};
};

TEST_F(DatasetS3, ProcessesThatReadTogetherCauseOneGetAnObject) {
  const auto dataset = Dataset::open(options());
  std::vector<pid_t> children;
  for (unsigned i = 0; i < 4; ++i) children.push_back(fork_reader(*dataset, i, i % 2 == 0));
  EXPECT_TRUE(read_all_right(*dataset, 99, true));
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(s3_.count(FakeS3::Kind::kGet), kObjects);
  EXPECT_EQ(s3_.retries(), 0);
}

TEST_F(DatasetS3, AProcessThatIsKilledCostsAtMostWhatItHadInFlight) {
  s3_.set_fault([](const FakeS3::Asked& asked, Reply& reply) {
    if (asked.kind == FakeS3::Kind::kGet) reply.first_byte_delay = std::chrono::milliseconds(5);
  });
  const auto opened = options();
  const auto dataset = Dataset::open(opened);
  std::mt19937 random(3);
  constexpr unsigned kKills = 6;
  for (unsigned i = 0; i < kKills; ++i) {
    const pid_t victim = fork_reader(*dataset, i, true);
    std::this_thread::sleep_for(std::chrono::milliseconds(10 + random() % 60));
    kill(victim, SIGKILL);
    status_of(victim);
  }
  EXPECT_EQ(status_of(fork_reader(*dataset, 77, true)), 0);
  EXPECT_TRUE(read_all_right(*dataset, 78, false));
  EXPECT_LE(s3_.count(FakeS3::Kind::kGet), kObjects + static_cast<int>(kKills) * opened.s3.max_connections);
}

// One object that may not be read, or not yet, costs that sample: its error says which one it is and what to do.
TEST_F(DatasetS3, AnObjectThatIsRefusedOrArchivedIsNamedAndTheOthersAreRead) {
  s3_.set_fault([](const FakeS3::Asked& asked, Reply& reply) {
    if (asked.kind != FakeS3::Kind::kGet) return;
    if (asked.key == "data/1003") reply = FakeS3::error(403, "AccessDenied", "Access Denied");
    if (asked.key == "data/1005")
      reply = FakeS3::error(403, "InvalidObjectState", "The operation is not valid for the object's storage class");
  });
  const auto dataset = Dataset::open(options());
  std::vector<std::uint64_t> all(kObjects);
  std::iota(all.begin(), all.end(), 0);
  const auto samples = dataset->read_batch(all);
  const auto message = [&samples](std::size_t i) -> std::string {
    try {
      if (samples[i].error) std::rethrow_exception(samples[i].error);
    } catch (const AccessError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message(3), "Access to s3://bucket/data/1003 was refused (" + s3_.url() +
                            " answered 403 AccessDenied: Access Denied). Access key id 'TESTKEY' needs the right "
                            "s3:GetObject there.");
  EXPECT_EQ(message(5), "s3://bucket/data/1005 is archived: restore it before it can be read (" + s3_.url() +
                            " answered 403 InvalidObjectState: The operation is not valid for the object's storage class).");
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (i != 3 && i != 5) {
      EXPECT_EQ(samples[i].bytes.text(), contents_[i]);
    }
  }
  s3_.set_fault(nullptr);  // the right was given, the object restored
  EXPECT_TRUE(read_all_right(*dataset, 1, false));
}

TEST_F(DatasetS3, EverySampleIsRightWhateverTheServerDoes) {
  s3_.set_fault([](const FakeS3::Asked& asked, Reply& reply) {
    if (asked.kind != FakeS3::Kind::kGet || asked.number_of_key > 2) return;
    switch (std::hash<std::string>()(asked.key) % 7) {
      case 0: reply = FakeS3::error(503, "SlowDown"); break;
      case 1: reply = FakeS3::error(500, "InternalError"); break;
      case 2: reply.reset = true; break;
      case 3: reply.cut_after = reply.body.size() / 2; break;
      case 4:
        if (asked.number_of_key == 1) reply.body[0] = static_cast<char>(reply.body[0] ^ 1);  // its MD5 tells
        break;
      case 5: reply.first_byte_delay = std::chrono::milliseconds(20); break;
      default: break;
    }
  });
  const auto dataset = Dataset::open(options());
  const pid_t child = fork_reader(*dataset, 1, true);
  EXPECT_TRUE(read_all_right(*dataset, 2, false));
  EXPECT_EQ(status_of(child), 0);
  EXPECT_GT(s3_.retries(), 0);
}

}  // namespace
}  // namespace alnair
