// Where a dataset lives: list it, stat an object, read ranges. Implementations: S3 (open_s3_source), a local
// directory (open_local_source). Tests implement it to fake what a real server will not do on demand.
//
// Thread safety: all methods may be called from any thread at once. After fork(), a child opens its own source.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alnair/core/bytes.h"

namespace alnair {

// One key of a source, as a listing or stat reports it. `etag` is without quotes (a weak one is W/"...") and may be empty; size and
// last-modified time then identify the version.
struct ObjectInfo {
  std::string key;
  std::uint64_t size = 0;
  std::string etag;
  std::int64_t last_modified_ms = 0;  // milliseconds since the Unix epoch
  bool archived = false;              // needs a restore before it can be read (S3 Glacier)

  bool same_version(const ObjectInfo& other) const {
    return size == other.size && etag == other.etag &&
           (!etag.empty() || last_modified_ms == other.last_modified_ms);
  }
};

// Called about every 100 ms while a call blocks; throws to abandon the wait (Python checks for signals here).
// Empty: wait without interruption.
using Interrupt = std::function<void()>;

// One ranged read of one object version.
struct ReadRequest {
  ObjectInfo object;         // as registered: the read is pinned to this version
  std::uint64_t offset = 0;  // bytes
  std::uint64_t length = 0;  // bytes; offset + length <= object.size
};

// What became of a ReadRequest: exactly `length` bytes, or an error (ChangedError, NotFoundError, AccessError,
// SourceError, TimeoutError, CancelledError).
struct ReadResult {
  View bytes;
  std::exception_ptr error;  // null on success
};
using ReadDone = std::function<void(ReadResult)>;

// A read in flight. Dropping it does not cancel; cancel() makes `done` run soon with CancelledError, unless the read
// has already ended. Idempotent, thread-safe.
class PendingRead {
 public:
  virtual ~PendingRead() = default;
  virtual void cancel() = 0;
};

class ObjectSource {
 public:
  virtual ~ObjectSource() = default;

  // Names this source in chunk ids and catalogs: the same for all processes and hosts that see the same objects, for
  // example "s3://bucket" on AWS or "s3://bucket@http://127.0.0.1:9000". Contains no secret.
  virtual std::string identity() const = 0;

  // Lists every object whose key starts with one of `prefixes` (raw prefixes; "" is everything), each object once, in
  // no particular order, in pages. `page` is called by one thread at a time. Blocks.
  // Throws AccessError, NotFoundError (no such bucket), SourceError, TimeoutError, ConfigError.
  virtual void list(std::span<const std::string> prefixes,
                    const std::function<void(std::vector<ObjectInfo>&&)>& page, const Interrupt& interrupt) = 0;

  // The next level below `prefix` ("a/" -> "a/b/", "a/c.png"), at most `limit` names: for hints in messages. Blocks.
  virtual std::vector<std::string> names_below(std::string_view prefix, std::size_t limit,
                                               const Interrupt& interrupt) = 0;

  // nullopt: no object of exactly that key. Blocks. Throws as list() does.
  virtual std::optional<ObjectInfo> stat(std::string_view key, const Interrupt& interrupt) = 0;

  // Whether another process has put what read() brings into the tiers that all nodes share, under a lease of its own.
  virtual bool fills_shared_tiers() const { return false; }

  // Starts a read and returns at once; retries, hedges and integrity checks are inside. `done` runs exactly once, on
  // a thread of the source (or on this one, before read() returns); it must be quick and must not block or throw.
  // The engine bounds what is in flight and queues the rest in order of submission.
  virtual std::shared_ptr<PendingRead> read(ReadRequest request, ReadDone done) = 0;
};

}  // namespace alnair
