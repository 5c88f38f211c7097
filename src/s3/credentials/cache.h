// Credentials at hand: loaded once for all who wait, and refreshed ahead of their expiry, behind their users'
// backs.
//
// Thread safety: all methods may be called from any thread at once, get(done) from event loops too. Not to be
// used in a forked child: keep caches in a ForkLocal.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string_view>

#include "s3/credentials/context.h"

namespace alnair {

class CredentialCache {
 public:
  // Loads credentials; blocks; called on a thread of the cache's own, once at a time. It calls the interrupt
  // now and then, which throws when the cache is being destroyed.
  using Load = std::function<LoadedCredentials(const Interrupt&)>;
  // A number in [0, 1): spreads the refreshes of many processes.
  using Random = std::function<double()>;

  CredentialCache(Load load, std::function<SystemTime()> now, Random random);
  // Credentials that were given, and are never refreshed.
  explicit CredentialCache(S3Credentials fixed);
  // Waits for a load under way to notice the interrupt; who still waits for it gets CancelledError.
  ~CredentialCache();
  CredentialCache(const CredentialCache&) = delete;
  CredentialCache& operator=(const CredentialCache&) = delete;

  // Calls `done(credentials, nullptr)` at once while credentials are usable; else, when a load has ended, on
  // another thread, with the credentials or its error. `done` must be quick and must not throw.
  using Done = std::function<void(const S3Credentials& credentials, std::exception_ptr error)>;
  void get(Done done);

  // The same, waiting. Throws what the load threw.
  S3Credentials get(const Interrupt& interrupt);

  // Tells that the server refuses these as expired or unknown: they are loaded anew before they are used
  // again.
  void reject(std::string_view access_key_id);

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state);

  const std::shared_ptr<State> state_;  // shared with the thread that loads: a `done` may destroy the cache
};

}  // namespace alnair
