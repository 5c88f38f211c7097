// Writes chunks to the shared directory so that they are durable, before something relies on that: many that come while one batch is
// synced make the next one.
//
// Thread-safe. The thread is started by the first write.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "cache/directory/directory_tier.h"

namespace alnair {

class DurableWriter {
 public:
  // `lost` runs with chunks that recheck() did not find.
  using Lost = std::function<void(std::span<const ContentHash>)>;
  DurableWriter(std::shared_ptr<DurableTier> directory, Lost lost);
  ~DurableWriter() { close(); }

  // `written` runs once, on the thread (or at once, if it is closed): for each request, whether its chunk is durable.
  using Written = std::function<void(const std::vector<char>& durable)>;
  void write(std::vector<PutRequest> requests, Written written);

  // Looks once more, soon, whether the chunks are there.
  void recheck(std::span<const ContentHash> hashes);

  // Writes what is queued, and ends the thread.
  void close();

 private:
  struct Job {
    std::vector<PutRequest> requests;
    Written written;
  };
  void run();
  void work(std::vector<Job> jobs, std::vector<ContentHash> again);

  const std::shared_ptr<DurableTier> directory_;
  const Lost lost_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Job> jobs_;
  std::vector<ContentHash> again_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace alnair
