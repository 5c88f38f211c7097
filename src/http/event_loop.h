// A thread that drives libcurl's multi interface with epoll. The thread is started by the constructor and
// takes no signals.
//
// Each loop has a connection cache of its own (libcurl cannot share one between threads) and resumes TLS
// sessions across its connections.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "http/transfer.h"

namespace alnair {

class EventLoop : public std::enable_shared_from_this<EventLoop> {
 public:
  using Clock = std::chrono::steady_clock;
  using TransferPtr = std::shared_ptr<Transfer>;

  // `finished` runs on the loop's thread, once for each transfer; it may call start().
  using Finished = std::function<void(TransferPtr)>;

  // `max_connections` are kept open. Throws SourceError when the system refuses a thread or descriptor.
  static std::shared_ptr<EventLoop> create(const std::string& ca_bundle, int max_connections,
                                           Finished finished);
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Thread-safe. After stop(), transfers end at once with kCancelled on the calling thread, and tasks are
  // dropped. On the loop's own thread, start() begins at once.
  void start(TransferPtr transfer);
  void cancel(TransferPtr transfer);
  void run_after(Clock::duration delay, std::function<void()> task);

  // Keeps so many connections open from now on: more are closed when a request ends, or at once if none is in flight and
  // `count` is 0. Thread-safe.
  void keep_connections(int count);

  // Ends every transfer with kCancelled and the thread with them; waits for that at most `patience`, and not
  // at all on the loop's own thread. Idempotent.
  void stop(Clock::duration patience);

 private:
  struct Command {
    TransferPtr transfer;  // to start, or to cancel
    bool cancel = false;
    Clock::time_point due{};
    std::function<void()> task;  // to run when due, if there is no transfer
  };
  struct Socket {
    std::uint32_t registered = 0;  // what epoll watches for
    std::uint32_t wanted = 0;      // what libcurl asks for
  };

  EventLoop(const std::string& ca_bundle, int max_connections, Finished finished);
  void make_multi(int max_connections);
  void run();
  void post(Command command);
  bool take_commands();
  void begin(TransferPtr transfer);
  void end(const TransferPtr& transfer);
  void abort(const TransferPtr& transfer, HttpFailure failure, const char* text);
  void drive_curl(curl_socket_t socket, int events);
  void reap();
  void run_due_tasks();
  void end_overdue();
  void wait_for_events();
  void shut_down();

  static int on_socket(CURL* easy, curl_socket_t socket, int what, void* self, void* unused);
  static int on_timer(CURLM* multi, long timeout_ms, void* self);
  static int on_close(void* self, curl_socket_t socket);

  const std::string ca_bundle_;
  const Finished finished_;
  std::atomic<std::thread::id> thread_{};

  std::mutex mutex_;
  std::vector<Command> inbox_;         // guarded by mutex_
  bool stopping_ = false;              // guarded by mutex_
  bool stopped_ = false;               // guarded by mutex_
  std::condition_variable ended_;      // stopped_ was set
  std::atomic<bool> sleeping_{false};  // in epoll_wait, or about to be: a post must wake it

  // Of the loop's thread only, once it runs.
  int epoll_ = -1;
  int wake_ = -1;
  std::vector<Socket> sockets_;  // by descriptor
  std::unique_ptr<CURLSH, CurlCloser<curl_share_cleanup>> share_;
  std::unique_ptr<CURLM, CurlCloser<curl_multi_cleanup>> multi_;
  std::vector<std::unique_ptr<Easy>> idle_;
  std::vector<TransferPtr> active_;
  std::vector<Command> commands_;
  std::vector<Command> tasks_;  // a heap, soonest due first
  Clock::time_point curl_due_ = Clock::time_point::max();
  Clock::time_point next_check_{};
};

}  // namespace alnair
