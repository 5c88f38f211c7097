// The contract that every object source passes. A backend takes part by instantiating the suite with a
// SourceFactory:
//
//   INSTANTIATE_TEST_SUITE_P(Local, ObjectSourceContract, ::testing::Values(SourceFactory{"local", make}),
//   source_name);
//
// Where a backend cannot do what the contract asks (a file system has no key "a//b"), it says so in its
// Deviations.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "alnair/core/error.h"
#include "alnair/source/object_source.h"

namespace alnair::testing {

struct Deviations {
  bool keys_are_paths = false;              // no "a" beside "a/b", no empty, "." or ".." components
  bool no_control_characters = false;       // in keys
  std::size_t max_component = 1024;         // bytes between two slashes
  bool overwrite_may_go_unnoticed = false;  // a server that ignores If-Match and sends no ETag
  std::size_t many_objects = 2500;          // for pagination; 0: too slow here
};

// One empty place for objects, with a source over it. Objects are written behind the source's back.
class SourceFixture {
 public:
  virtual ~SourceFixture() = default;
  virtual void put(const std::string& key, const std::string& bytes) = 0;
  virtual void remove(const std::string& key) = 0;
  virtual std::shared_ptr<ObjectSource> source() = 0;
  virtual Deviations deviations() const { return {}; }
};

struct SourceFactory {
  std::string name;
  std::function<std::unique_ptr<SourceFixture>()> make;  // nullptr: cannot run here (says why on stderr)
};

inline std::string source_name(const ::testing::TestParamInfo<SourceFactory>& info) {
  return info.param.name;
}

// The outcome of a read, waited for.
class Reading {
 public:
  Reading(ObjectSource& source, ReadRequest request) : outcome_(std::make_shared<Outcome>()) {
    pending_ = source.read(std::move(request), [outcome = outcome_](ReadResult result) {
      outcome->calls.fetch_add(1);
      const std::lock_guard lock(outcome->mutex);
      outcome->result = std::move(result);
      outcome->ready = true;
      outcome->changed.notify_all();
    });
  }
  void cancel() { pending_->cancel(); }
  int calls() const { return outcome_->calls; }

  // The bytes, or the error thrown.
  std::string get() {
    std::unique_lock lock(outcome_->mutex);
    if (!outcome_->changed.wait_for(lock, std::chrono::seconds(60), [&] { return outcome_->ready; }))
      throw std::runtime_error("done was not called within a minute");
    if (outcome_->result.error) std::rethrow_exception(outcome_->result.error);
    return std::string(outcome_->result.bytes.text());
  }

 private:
  struct Outcome {
    std::mutex mutex;
    std::condition_variable changed;
    ReadResult result;
    bool ready = false;
    std::atomic<int> calls{0};
  };
  std::shared_ptr<Outcome> outcome_;
  std::shared_ptr<PendingRead> pending_;
};

class ObjectSourceContract : public ::testing::TestWithParam<SourceFactory> {
 protected:
  void SetUp() override {
    fixture_ = GetParam().make();
    if (fixture_ == nullptr) GTEST_SKIP() << GetParam().name << " cannot run here";
    source_ = fixture_->source();
    deviations_ = fixture_->deviations();
  }

  // Key -> object; fails the test when a key comes twice.
  std::map<std::string, ObjectInfo> list(const std::vector<std::string>& prefixes) {
    std::map<std::string, ObjectInfo> objects;
    source_->list(prefixes,
                  [&](std::vector<ObjectInfo>&& page) {
                    for (ObjectInfo& object : page) {
                      const std::string key = object.key;
                      EXPECT_TRUE(objects.emplace(key, std::move(object)).second)
                          << key << " was listed twice";
                    }
                  },
                  {});
    return objects;
  }
  std::vector<std::string> keys(const std::vector<std::string>& prefixes) {
    std::vector<std::string> result;
    for (const auto& [key, object] : list(prefixes)) result.push_back(key);
    return result;
  }
  ObjectInfo registered(const std::string& key) {
    const auto object = source_->stat(key, {});
    if (!object) throw std::runtime_error("no object " + key);
    return *object;
  }
  std::string read_all(const ObjectInfo& object) { return Reading(*source_, {object, 0, object.size}).get(); }

  // Keys of every odd kind that the backend can have.
  std::vector<std::string> odd_keys() const {
    std::vector<std::string> candidates = {"plain.bin",
                                           "with space",
                                           " leading and trailing ",
                                           "plus+plus",
                                           "per%20cent%",
                                           "quotes\"'`",
                                           "amp&<tag>;",
                                           "equals=question?hash#",
                                           "back\\slash",
                                           "colon:at@",
                                           "star*[brackets]{braces}|^~!$(),",
                                           "ümläut-漢字-🙂",
                                           "dir with space/ü+=.bin",
                                           "tab\tkey",
                                           "double//slash",
                                           "a/../b",
                                           "a/./c",
                                           "trailing/slash/",
                                           "/leading",
                                           "...",
                                           "%2F",
                                           "-",
                                           "deep/er/and/deep/er/still.bin"};
    std::string longest;
    while (longest.size() < 1024) longest += longest.size() % 201 == 200 ? '/' : 'k';
    candidates.push_back(std::move(longest));
    candidates.push_back(std::string(std::min<std::size_t>(deviations_.max_component, 1024), 'c'));
    if (deviations_.no_control_characters) std::erase(candidates, "tab\tkey");
    if (!deviations_.keys_are_paths) return candidates;
    const auto is_path = [&](const std::string& key) {
      std::size_t start = 0;
      while (true) {
        const std::size_t end = std::min(key.find('/', start), key.size());
        const std::string component = key.substr(start, end - start);
        if (component.empty() || component == "." || component == ".." ||
            component.size() > deviations_.max_component)
          return false;
        if (end == key.size()) return true;
        start = end + 1;
      }
    };
    std::erase_if(candidates, [&](const std::string& key) { return !is_path(key); });
    return candidates;
  }

  std::unique_ptr<SourceFixture> fixture_;
  std::shared_ptr<ObjectSource> source_;
  Deviations deviations_;
};

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_P(ObjectSourceContract, ListsNothingWhereNothingIs) {
  EXPECT_THAT(list({""}), IsEmpty());
  EXPECT_THAT(list({"absent/", "neither"}), IsEmpty());
  EXPECT_THAT(list({}), IsEmpty());
}

TEST_P(ObjectSourceContract, ListsWhatStartsWithAPrefix) {
  for (const char* key : {"a.txt", "train/1", "train/2", "train/sub/3", "training/4", "test/5"})
    fixture_->put(key, "x");
  EXPECT_THAT(keys({"train/"}), ElementsAre("train/1", "train/2", "train/sub/3"));
  EXPECT_THAT(keys({"train"}), ElementsAre("train/1", "train/2", "train/sub/3", "training/4"));
  EXPECT_THAT(keys({"t"}), ElementsAre("test/5", "train/1", "train/2", "train/sub/3", "training/4"));
  EXPECT_THAT(keys({"a.txt"}), ElementsAre("a.txt"));
  EXPECT_THAT(keys({"train/su"}), ElementsAre("train/sub/3"));
  EXPECT_EQ(keys({""}).size(), 6u);
}

TEST_P(ObjectSourceContract, ListsEachObjectOnceHoweverPrefixesOverlap) {
  for (const char* key : {"a/1", "a/b/2", "ab/3", "c/4"}) fixture_->put(key, "x");
  EXPECT_THAT(keys({"a/b/", "a/", "a", "a/", "c/4", "c/"}), ElementsAre("a/1", "a/b/2", "ab/3", "c/4"));
  EXPECT_EQ(keys({"", "a", "a"}).size(), 4u);
}

TEST_P(ObjectSourceContract, DescribesWhatItLists) {
  fixture_->put("k", "hello");
  fixture_->put("empty", "");
  const auto objects = list({""});
  ASSERT_EQ(objects.size(), 2u);
  EXPECT_EQ(objects.at("k").size, 5u);
  EXPECT_EQ(objects.at("empty").size, 0u);
  EXPECT_GT(objects.at("k").last_modified_ms, 1'500'000'000'000);
  EXPECT_THAT(objects.at("k").etag, ::testing::Not(HasSubstr("\"")));
  EXPECT_FALSE(objects.at("k").archived);
}

TEST_P(ObjectSourceContract, StatsWhatItLists) {
  fixture_->put("dir/k", "hello");
  const auto stat = source_->stat("dir/k", {});
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->key, "dir/k");
  EXPECT_EQ(stat->size, 5u);
  const ObjectInfo listed = list({""}).at("dir/k");
  EXPECT_EQ(stat->etag, listed.etag);
  EXPECT_EQ(stat->last_modified_ms / 1000, listed.last_modified_ms / 1000);  // HTTP dates have whole seconds
}

TEST_P(ObjectSourceContract, StatsOnlyObjectsOfExactlyThatKey) {
  fixture_->put("dir/k", "hello");
  for (const char* key : {"absent", "dir", "dir/", "dir/kk", "dir/K", "ir/k"})
    EXPECT_EQ(source_->stat(key, {}), std::nullopt) << key;
}

TEST_P(ObjectSourceContract, TakesKeysOfEveryOddKind) {
  std::vector<std::string> expected = odd_keys();
  for (const std::string& key : expected) fixture_->put(key, "bytes of " + key);
  std::sort(expected.begin(), expected.end());
  const auto objects = list({""});
  EXPECT_EQ(keys({""}), expected);
  for (const std::string& key : expected) {
    EXPECT_THAT(keys({key}), ::testing::Contains(key));
    EXPECT_EQ(source_->stat(key, {}).has_value(), true) << key;
    if (const auto listed = objects.find(key); listed != objects.end()) {
      EXPECT_EQ(read_all(listed->second), "bytes of " + key);
    }
  }
}

TEST_P(ObjectSourceContract, ListsMoreThanOnePage) {
  if (deviations_.many_objects == 0) GTEST_SKIP() << "too slow on " << GetParam().name;
  std::vector<std::string> expected;
  for (std::size_t i = 0; i < deviations_.many_objects; ++i) expected.push_back(fmt::format("many/{:05}", i));
  for (const std::string& key : expected) fixture_->put(key, "x");
  EXPECT_EQ(keys({"many/"}), expected);
  EXPECT_EQ(keys({"many/000", "many/001"}).size(), 200u);
}

TEST_P(ObjectSourceContract, NamesTheNextLevel) {
  for (const char* key : {"a/b/1", "a/b/2", "a/c", "a/d/e/3", "f"}) fixture_->put(key, "x");
  EXPECT_THAT(source_->names_below("a/", 10, {}), ElementsAre("a/b/", "a/c", "a/d/"));
  EXPECT_THAT(source_->names_below("", 10, {}), ElementsAre("a/", "f"));
  EXPECT_EQ(source_->names_below("a/", 2, {}).size(), 2u);
  EXPECT_THAT(source_->names_below("absent/", 10, {}), IsEmpty());
}

TEST_P(ObjectSourceContract, ReadsRanges) {
  std::string bytes;
  for (int i = 0; i < 100'000; ++i) bytes.push_back(static_cast<char>(i * 7 + i / 251));
  fixture_->put("k", bytes);
  const ObjectInfo object = registered("k");
  EXPECT_EQ(read_all(object), bytes);
  for (const auto& [offset, length] :
       {std::pair{0, 1}, {1, 2}, {99'999, 1}, {50'000, 50'000}, {12'345, 54'321}})
    EXPECT_EQ(
        Reading(*source_, {object, static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(length)})
            .get(),
        bytes.substr(static_cast<std::size_t>(offset), static_cast<std::size_t>(length)));
  for (const std::uint64_t offset : {0, 77, 100'000})
    EXPECT_EQ(Reading(*source_, {object, offset, 0}).get(), "");
}

TEST_P(ObjectSourceContract, ReadsEmptyObjects) {
  fixture_->put("empty", "");
  EXPECT_EQ(read_all(registered("empty")), "");
}

TEST_P(ObjectSourceContract, NoticesAnOverwrittenObject) {
  if (deviations_.overwrite_may_go_unnoticed) GTEST_SKIP() << GetParam().name << " cannot tell";
  fixture_->put("k", "first version");
  const ObjectInfo object = registered("k");
  fixture_->put("k", "another one, longer");
  try {
    read_all(object);
    FAIL() << "the read was not refused";
  } catch (const ChangedError& error) {
    EXPECT_THAT(error.what(), HasSubstr("k"));
  }
}

TEST_P(ObjectSourceContract, NoticesADeletedObject) {
  fixture_->put("dir/gone", "bytes");
  const ObjectInfo object = registered("dir/gone");
  fixture_->remove("dir/gone");
  const auto expect_named = [](const Error& error) { EXPECT_THAT(error.what(), HasSubstr("dir/gone")); };
  try {
    read_all(object);
    FAIL() << "the read was not refused";
  } catch (const NotFoundError& error) {
    expect_named(error);
  } catch (const ChangedError& error) {
    expect_named(error);
  }
}

TEST_P(ObjectSourceContract, CallsDoneOnceForEachOfManyReads) {
  std::vector<ObjectInfo> objects;
  for (int i = 0; i < 20; ++i) {
    fixture_->put(fmt::format("k{}", i),
                  std::string(static_cast<std::size_t>(1000 + i), static_cast<char>('a' + i)));
    objects.push_back(registered(fmt::format("k{}", i)));
  }
  std::vector<Reading> readings;
  for (int i = 0; i < 400; ++i) {
    const ObjectInfo& object = objects[static_cast<std::size_t>(i) % objects.size()];
    readings.emplace_back(*source_, ReadRequest{object, 0, object.size});
  }
  for (int i = 0; i < 400; ++i) {
    const int k = i % 20;
    EXPECT_EQ(readings[static_cast<std::size_t>(i)].get(),
              std::string(static_cast<std::size_t>(1000 + k), static_cast<char>('a' + k)));
  }
  for (const Reading& reading : readings) EXPECT_EQ(reading.calls(), 1);
}

TEST_P(ObjectSourceContract, CancelsOrCompletesButCallsDoneOnce) {
  fixture_->put("k", std::string(300'000, 'x'));
  const ObjectInfo object = registered("k");
  std::vector<Reading> readings;
  for (int i = 0; i < 100; ++i) readings.emplace_back(*source_, ReadRequest{object, 0, object.size});
  for (Reading& reading : readings) reading.cancel();
  for (Reading& reading : readings) {
    reading.cancel();  // idempotent
    try {
      EXPECT_EQ(reading.get().size(), object.size);
    } catch (const CancelledError&) {
    }
  }
  for (const Reading& reading : readings) EXPECT_EQ(reading.calls(), 1);
  EXPECT_EQ(read_all(object).size(), object.size);  // others are unharmed
}

TEST_P(ObjectSourceContract, EndsItsReadsWhenItIsDestroyed) {
  fixture_->put("k", std::string(300'000, 'x'));
  const ObjectInfo object = registered("k");
  auto source = fixture_->source();
  source_.reset();
  std::vector<Reading> readings;
  for (int i = 0; i < 50; ++i) readings.emplace_back(*source, ReadRequest{object, 0, object.size});
  source.reset();
  for (Reading& reading : readings) {
    try {
      EXPECT_EQ(reading.get().size(), object.size);
    } catch (const CancelledError&) {
    }
  }
}

TEST_P(ObjectSourceContract, LetsAnInterruptAbandonAListing) {
  for (const char* key : {"a", "b"}) fixture_->put(key, "x");
  struct Stop {};
  std::atomic<int> calls{0};
  const Interrupt interrupt = [&] {
    ++calls;
    throw Stop();
  };
  try {  // quick sources may end before they ask
    source_->list(
        std::vector<std::string>{""}, [](std::vector<ObjectInfo>&&) {}, interrupt);
    EXPECT_EQ(calls, 0);
  } catch (const Stop&) {
    EXPECT_EQ(calls, 1);
  }
}

TEST_P(ObjectSourceContract, LetsAPageCallbackAbandonAListing) {
  fixture_->put("a", "x");
  struct Stop {};
  EXPECT_THROW(
      source_->list(std::vector<std::string>{""}, [](std::vector<ObjectInfo>&&) { throw Stop(); }, {}), Stop);
  EXPECT_THAT(keys({""}), ElementsAre("a"));
}

TEST_P(ObjectSourceContract, ServesManyThreads) {
  for (int i = 0; i < 10; ++i) fixture_->put(fmt::format("k{}", i), fmt::format("bytes {}", i));
  std::vector<std::future<bool>> threads;
  for (int thread = 0; thread < 8; ++thread)
    threads.push_back(std::async(std::launch::async, [this, thread] {
      bool right = true;
      for (int round = 0; round < 10; ++round) {
        const int i = (thread + round) % 10;
        const auto object = source_->stat(fmt::format("k{}", i), {});
        right = right && object &&
                Reading(*source_, {*object, 0, object->size}).get() == fmt::format("bytes {}", i);
      }
      std::size_t listed = 0;
      source_->list(std::vector<std::string>{""},
                    [&](std::vector<ObjectInfo>&& page) { listed += page.size(); }, {});
      return right && listed == 10;
    }));
  for (auto& thread : threads) EXPECT_TRUE(thread.get());
}

TEST_P(ObjectSourceContract, HasAnIdentityThatAnotherSourceOverTheSamePlaceShares) {
  EXPECT_FALSE(source_->identity().empty());
  EXPECT_EQ(source_->identity(), fixture_->source()->identity());
}

}  // namespace alnair::testing
