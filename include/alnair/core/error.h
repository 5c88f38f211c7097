// Failures, organised by what the caller does next. A miss is never an error: it is a std::nullopt.
//
// what() is one complete sentence for a person: it names the object, endpoint, file or option involved and what was
// expected. It never contains a secret. Python sees each class as the exception of the same name (alnair.Error and
// its subclasses); src/python/errors.cc is the one place that maps them.
#pragma once

#include <stdexcept>
#include <string>

namespace alnair {

// The base of all failures that this library reports.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Fix the configuration: an option, environment value, URL, job file or credential is malformed or missing.
class ConfigError : public Error {
 public:
  using Error::Error;
};

// Fix the permissions or credentials: the source, or a directory, refused access.
class AccessError : public Error {
 public:
  using Error::Error;
};

// The named bucket, prefix, object or dataset version does not exist.
class NotFoundError : public Error {
 public:
  using Error::Error;
};

// The object is no longer the one that was registered (overwritten or deleted since); its bytes are not in the cache.
// Register the dataset again.
class ChangedError : public Error {
 public:
  using Error::Error;
};

// The object source failed, after the retries that the budget allows: unreachable, throttled, or answering garbage.
// Trying again later may work.
class SourceError : public Error {
 public:
  using Error::Error;
};

// A deadline passed. Trying again may work.
class TimeoutError : public Error {
 public:
  using Error::Error;
};

// A cache directory, catalog or manifest cannot be used (owned by someone else, of a newer format...). Never thrown by
// a read: reads fall through to the source.
class CacheError : public Error {
 public:
  using Error::Error;
};

// The caller cancelled the operation.
class CancelledError : public Error {
 public:
  using Error::Error;
};

}  // namespace alnair
