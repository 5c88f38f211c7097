// Fetches objects of an S3 bucket as fast as it can, and says how fast that was, as one line of JSON.
//
//   bench_s3_fetch ENDPOINT BUCKET PREFIX SECONDS IN_FLIGHT PART_BYTES    (PART_BYTES 0: whole objects)
//
// Keys come from the environment (AWS_ACCESS_KEY_ID...). Reads go over the objects in turn until the time is
// up.
#include <fmt/format.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "alnair/source/s3_source.h"
#include "cpu_seconds.h"

namespace {

using alnair::ObjectInfo;

// Keeps `in_flight` reads going; each that ends starts the next.
class Reader {
 public:
  Reader(alnair::ObjectSource& source, std::vector<alnair::ReadRequest> reads)
      : source_(source), reads_(std::move(reads)) {}

  void run(double seconds, int in_flight) {
    end_ = std::chrono::steady_clock::now() +
           std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
    open_ = in_flight;
    for (int i = 0; i < in_flight; ++i) next();
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [&] { return open_ == 0; });
  }

  std::uint64_t reads() const { return done_; }
  std::uint64_t bytes() const { return bytes_; }
  std::uint64_t errors() const { return errors_; }

 private:
  void next() {
    if (std::chrono::steady_clock::now() >= end_) {
      const std::lock_guard lock(mutex_);
      if (--open_ == 0) idle_.notify_one();
      return;
    }
    source_.read(reads_[next_.fetch_add(1) % reads_.size()], [this](alnair::ReadResult result) {
      if (result.error) {
        ++errors_;
      } else {
        ++done_;
        bytes_ += result.bytes.size();
      }
      next();
    });
  }

  alnair::ObjectSource& source_;
  const std::vector<alnair::ReadRequest> reads_;
  std::chrono::steady_clock::time_point end_;
  std::atomic<std::uint64_t> next_{0}, done_{0}, bytes_{0}, errors_{0};
  std::mutex mutex_;
  std::condition_variable idle_;
  int open_ = 0;  // guarded by mutex_
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    fmt::print(stderr, "usage: bench_s3_fetch ENDPOINT BUCKET PREFIX SECONDS IN_FLIGHT PART_BYTES\n");
    return 2;
  }
  const std::string prefix = argv[3];
  const double seconds = std::atof(argv[4]);
  const int in_flight = std::atoi(argv[5]);
  const std::uint64_t part = std::strtoull(argv[6], nullptr, 10);
  alnair::S3Options options;
  options.endpoint_url = argv[1];
  options.max_connections = in_flight;
  try {
    const auto source = alnair::open_s3_source(argv[2], options);
    // nginx has no listings: "PREFIX{0..N}" as "PREFIX:N".
    std::vector<ObjectInfo> objects;
    if (const std::size_t colon = prefix.find(':'); colon != std::string::npos) {
      const auto count = std::strtoull(prefix.c_str() + colon + 1, nullptr, 10);
      const auto first = source->stat(prefix.substr(0, colon) + "0", {});
      if (!first) throw std::runtime_error("no object " + prefix.substr(0, colon) + "0");
      for (std::uint64_t i = 0; i < count; ++i) {
        ObjectInfo object = *first;
        object.key = fmt::format("{}{}", prefix.substr(0, colon), i);
        object.etag.clear();
        object.last_modified_ms = 0;
        objects.push_back(std::move(object));
      }
    } else {
      source->list(std::vector<std::string>{prefix},
                   [&](std::vector<ObjectInfo>&& page) {
                     objects.insert(objects.end(), std::make_move_iterator(page.begin()),
                                    std::make_move_iterator(page.end()));
                   },
                   {});
    }
    std::vector<alnair::ReadRequest> reads;
    for (const ObjectInfo& object : objects)
      for (std::uint64_t offset = 0; offset < object.size; offset += part == 0 ? object.size : part)
        reads.push_back({object, offset, part == 0 ? object.size : std::min(part, object.size - offset)});
    if (reads.empty()) throw std::runtime_error("nothing to read");
    Reader warm_up(*source, reads);
    warm_up.run(0.2, in_flight);
    Reader reader(*source, std::move(reads));
    const double cpu = cpu_seconds();
    const auto begin = std::chrono::steady_clock::now();
    reader.run(seconds, in_flight);
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    fmt::print("{{\"reads\": {}, \"bytes\": {}, \"errors\": {}, \"wall\": {:.4f}, \"cpu\": {:.4f}}}\n",
               reader.reads(), reader.bytes(), reader.errors(), wall, cpu_seconds() - cpu);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
