#include "s3/credential_gate.h"

#include <signal.h>

#include <optional>
#include <system_error>
#include <thread>

namespace alnair {

CredentialGate::CredentialGate(S3Credentials fixed)
    : current_(std::make_shared<const S3Credentials>(std::move(fixed))),
      refresh_at_(Clock::time_point::max()),
      expires_at_(Clock::time_point::max()) {}

std::shared_ptr<const S3Credentials> CredentialGate::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

void CredentialGate::when_ready(Ready ready) {
  bool usable = false, fetch_now = false, again = false;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    usable = current_ && !refused_ && now < expires_at_;
    fetch_now = fetch_ && !fetching_ && (!usable || now >= refresh_at_);
    again = refused_;
    if (fetch_now) fetching_ = true;
    if (!usable) waiting_.push_back(std::move(ready));
  }
  if (fetch_now) start_fetching(again);
  if (usable) ready(nullptr);
}

void CredentialGate::start_fetching(bool again) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals belong to the program's own threads
  bool started = true;
  try {
    std::thread([self = shared_from_this(), again] { self->fetch(again); }).detach();
  } catch (const std::system_error&) {
    started = false;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started) fetch(again);  // no thread to be had: better to block than to fail
}

void CredentialGate::fetch(bool again) {
  std::exception_ptr error;
  std::optional<Fetched> fetched;
  try {
    fetched = fetch_(again);
  } catch (...) {
    error = std::current_exception();
  }
  std::vector<Ready> waiting;
  {
    const std::lock_guard lock(mutex_);
    fetching_ = false;
    if (fetched) {
      current_ = std::make_shared<const S3Credentials>(std::move(fetched->credentials));
      refresh_at_ = fetched->refresh_at;
      expires_at_ = fetched->expires_at;
      refused_ = false;
    } else {
      refresh_at_ = Clock::now() + std::chrono::seconds(30);  // of credentials that are still good
    }
    waiting.swap(waiting_);
  }
  for (const Ready& ready : waiting) ready(error);
}

void CredentialGate::refuse(const std::shared_ptr<const S3Credentials>& credentials) {
  const std::lock_guard lock(mutex_);
  if (credentials == current_ && fetch_) refused_ = true;
}

}  // namespace alnair
