// Signals are for the program's own threads (Python handles Ctrl-C on its main thread): ours are started
// without any.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace alnair {

// Blocks signals of this thread for the scope; a thread that is started in it inherits that for good. Not what the thread itself
// causes by touching memory: a mapped file may have been cut (bus_guard.h), and a blocked SIGBUS would end the process.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    for (const int own : {SIGBUS, SIGSEGV, SIGFPE, SIGILL}) sigdelset(&all, own);
    pthread_sigmask(SIG_SETMASK, &all, &previous_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t previous_;
};

}  // namespace alnair
