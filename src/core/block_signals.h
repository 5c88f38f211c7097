// Signals are for the program's own threads (Python handles Ctrl-C on its main thread): ours are started
// without any.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace alnair {

// Blocks all signals of this thread for the scope; a thread that is started in it inherits that for good.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t previous_;
};

}  // namespace alnair
