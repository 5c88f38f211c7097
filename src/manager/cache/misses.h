// Cache misses of jobs that have no S3 credentials: brings the chunks that they ask for into the shared tiers, under the same
// leases as everybody, and says where they are. Bytes never pass through here.
//
// Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "manager/cache/dataset_chunks.h"
#include "manager/records/records.h"

namespace alnair::manager {

// A chunk as jobs name it.
struct MissedChunk {
  std::string key;
  std::uint64_t chunk = 0;
  auto operator<=>(const MissedChunk&) const = default;
};

struct MissAnswer {
  enum class State { kPending, kRedis, kDirectory, kSource, kFailed };
  State state = State::kPending;
  std::string hash = {};     // of kRedis and kDirectory, in hex
  std::string url = {};      // of kSource, which no tier takes: where the whole object can be read for a while
  std::string failure = {};  // of kFailed
};

class Misses {
 public:
  using Open = std::function<std::shared_ptr<DatasetChunks>(const DatasetRecord&, const std::string& domain)>;
  using Presign = std::function<std::string(const DatasetRecord&, const std::string& key)>;

  Misses(Open open, Presign presign, std::size_t threads = 2);
  ~Misses();  // as stop()

  // One answer for each chunk, after `patience` at most: what is kPending by then is still on its way, and is asked for again.
  std::vector<MissAnswer> answer(const DatasetRecord& dataset, const std::string& domain, std::span<const MissedChunk> chunks,
                                 std::chrono::milliseconds patience);

  // Content hashes of a dataset's chunks, as DatasetChunks::known_hashes() has them. Throws as opening it does.
  std::string known_hashes(const DatasetRecord& dataset, const std::string& domain, std::uint64_t first, std::uint64_t most);

  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  // A dataset version that is asked for. What it does not hold any more is looked for again.
  struct Asked {
    DatasetRecord dataset;
    std::string domain;
    std::shared_ptr<DatasetChunks> chunks;  // null: not opened yet
    std::map<MissedChunk, MissAnswer> answers;  // kPending: on its way
    std::vector<MissedChunk> wanted;            // not begun with
    bool queued = false;
    Clock::time_point last_use, renewed;
  };
  std::shared_ptr<Asked> asked_for(const DatasetRecord& dataset, const std::string& domain);
  std::shared_ptr<DatasetChunks> chunks_of(Asked& asked);
  void work();
  void serve(Asked& asked, const std::vector<MissedChunk>& wanted);
  std::vector<MissAnswer> bring(DatasetChunks& chunks, const DatasetRecord& dataset, const std::vector<MissedChunk>& wanted);
  void forget_old();

  const Open open_;
  const Presign presign_;
  std::mutex mutex_;
  std::condition_variable work_, done_;
  bool stopping_ = false;
  std::map<std::string, std::shared_ptr<Asked>> asked_;  // by dataset and version
  std::deque<std::shared_ptr<Asked>> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace alnair::manager
