#include "http/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "alnair/core/error.h"
#include "core/block_signals.h"

namespace alnair {
namespace {

constexpr auto kCheckInterval = std::chrono::milliseconds(100);  // of stalls and timeouts
constexpr std::size_t kKeptHandles = 256;

constexpr auto kLaterDue = [](const auto& a, const auto& b) { return a.due > b.due; };

[[noreturn]] void refused(const char* what) {
  throw SourceError(
      fmt::format("the system refuses another {} for network requests: {}", what, strerror(errno)));
}

}  // namespace

std::shared_ptr<EventLoop> EventLoop::create(const std::string& ca_bundle, int max_connections,
                                             Finished finished) {
  std::shared_ptr<EventLoop> loop(new EventLoop(ca_bundle, max_connections, std::move(finished)));
  const BlockSignals blocked;  // libcurl's resolver threads inherit it
  try {
    std::thread([loop] { loop->run(); }).detach();  // stop() waits for its end
  } catch (const std::system_error& error) {
    errno = error.code().value();
    refused("thread");
  }
  return loop;
}

EventLoop::EventLoop(const std::string& ca_bundle, int max_connections, Finished finished)
    : ca_bundle_(ca_bundle), finished_(std::move(finished)) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) refused("descriptor");
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = wake_;
  if (wake_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) != 0) {
    close(epoll_);
    if (wake_ >= 0) close(wake_);
    refused("descriptor");
  }
  share_.reset(curl_share_init());
  curl_share_setopt(share_.get(), CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
  make_multi(max_connections);
}

void EventLoop::make_multi(int max_connections) {
  multi_.reset(curl_multi_init());
  curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETFUNCTION, &EventLoop::on_socket);
  curl_multi_setopt(multi_.get(), CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_.get(), CURLMOPT_TIMERFUNCTION, &EventLoop::on_timer);
  curl_multi_setopt(multi_.get(), CURLMOPT_TIMERDATA, this);
  curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, static_cast<long>(max_connections));
  curl_multi_setopt(multi_.get(), CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_NOTHING));
  curl_due_ = Clock::time_point::max();
}

EventLoop::~EventLoop() {
  idle_.clear();
  multi_.reset();
  share_.reset();
  close(wake_);
  close(epoll_);
}

void EventLoop::start(TransferPtr transfer) {
  if (std::this_thread::get_id() == thread_.load(std::memory_order_relaxed))
    return begin(std::move(transfer));
  post({std::move(transfer), false, {}, {}});
}

void EventLoop::cancel(TransferPtr transfer) { post({std::move(transfer), true, {}, {}}); }

void EventLoop::run_after(Clock::duration delay, std::function<void()> task) {
  post({nullptr, false, Clock::now() + delay, std::move(task)});
}

void EventLoop::keep_connections(int count) {
  run_after({}, [this, count] {
    const int kept = std::max(1, count);  // 0 would mean libcurl's own default
    if (count == 0 && active_.empty()) {
      make_multi(kept);  // libcurl closes idle connections only with this
    } else {
      curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, static_cast<long>(kept));
    }
  });
}

void EventLoop::post(Command command) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      inbox_.push_back(std::move(command));
      command.transfer = nullptr;
    } else if (command.cancel) {
      command.transfer = nullptr;  // ended, or about to be
    }
  }
  if (command.transfer) {
    command.transfer->fail(HttpFailure::kCancelled, "the client is stopping");
    finished_(std::move(command.transfer));
  } else if (sleeping_.load()) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(wake_, &one, sizeof one);
  }
}

void EventLoop::stop(Clock::duration patience) {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(wake_, &one, sizeof one);
  if (std::this_thread::get_id() != thread_.load()) ended_.wait_for(lock, patience, [&] { return stopped_; });
}

void EventLoop::run() {
  thread_.store(std::this_thread::get_id());
  while (take_commands()) {
    run_due_tasks();
    // Starting a transfer makes a timeout due at once: that sends the request. A few rounds save as many
    // epoll_waits.
    for (int round = 0; round < 4 && curl_due_ <= Clock::now(); ++round) {
      curl_due_ = Clock::time_point::max();
      drive_curl(CURL_SOCKET_TIMEOUT, 0);
      reap();
    }
    end_overdue();
    wait_for_events();
    reap();
  }
  shut_down();
}

// False: stop.
bool EventLoop::take_commands() {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    commands_.swap(inbox_);
  }
  for (Command& command : commands_) {
    if (!command.transfer) {
      tasks_.push_back(std::move(command));
      std::push_heap(tasks_.begin(), tasks_.end(), kLaterDue);
    } else if (!command.cancel) {
      begin(std::move(command.transfer));
    } else if (command.transfer->easy) {
      abort(command.transfer, HttpFailure::kCancelled, "cancelled");
    }
  }
  commands_.clear();
  return true;
}

void EventLoop::begin(TransferPtr transfer) {
  if (transfer->cancelled.load()) {
    transfer->fail(HttpFailure::kCancelled, "cancelled");
    return finished_(std::move(transfer));
  }
  if (transfer->request.prepare) {
    try {
      transfer->request.prepare(transfer->request);
    } catch (const std::exception& error) {
      transfer->fail(HttpFailure::kOther, error.what());
      return finished_(std::move(transfer));
    }
  }
  if (const std::string& url = transfer->request.url;
      !url.starts_with("http://") && !url.starts_with("https://")) {
    transfer->fail(HttpFailure::kOther, "not an HTTP URL");
    return finished_(std::move(transfer));
  }
  std::unique_ptr<Easy> easy;
  if (idle_.empty()) {
    easy = std::make_unique<Easy>(ca_bundle_, share_.get(), this, &EventLoop::on_close);
  } else {
    easy = std::move(idle_.back());
    idle_.pop_back();
  }
  transfer->begin(std::move(easy));
  transfer->index = active_.size();
  active_.push_back(transfer);
  if (curl_multi_add_handle(multi_.get(), transfer->easy->get()) != CURLM_OK)
    abort(transfer, HttpFailure::kOther, "libcurl takes no more requests");
}

// Gives back the handle, and reports. `transfer` has its outcome.
void EventLoop::end(const TransferPtr& transfer) {
  curl_multi_remove_handle(multi_.get(), transfer->easy->get());
  if (idle_.size() < kKeptHandles) idle_.push_back(std::move(transfer->easy));
  transfer->easy.reset();
  TransferPtr self = std::move(active_[transfer->index]);
  if (self->index + 1 < active_.size()) {
    active_[self->index] = std::move(active_.back());
    active_[self->index]->index = self->index;
  }
  active_.pop_back();
  finished_(std::move(self));
}

void EventLoop::abort(const TransferPtr& transfer, HttpFailure failure, const char* text) {
  transfer->fail(failure, text);
  end(transfer);
}

void EventLoop::drive_curl(curl_socket_t socket, int events) {
  int running = 0;
  curl_multi_socket_action(multi_.get(), socket, events, &running);
}

void EventLoop::reap() {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    Transfer* transfer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    transfer->end(message->data.result);
    end(active_[transfer->index]);
  }
}

void EventLoop::run_due_tasks() {
  while (!tasks_.empty() && tasks_.front().due <= Clock::now()) {
    std::pop_heap(tasks_.begin(), tasks_.end(), kLaterDue);
    std::function<void()> task = std::move(tasks_.back().task);
    tasks_.pop_back();
    task();
  }
}

void EventLoop::end_overdue() {
  const Clock::time_point now = Clock::now();
  if (now < next_check_) return;
  next_check_ = now + kCheckInterval;
  std::vector<TransferPtr> overdue;
  for (const TransferPtr& transfer : active_)
    if (transfer->overdue(now) != HttpFailure::kNone) overdue.push_back(transfer);
  for (const TransferPtr& transfer : overdue) {
    const HttpFailure failure = transfer->overdue(now);
    abort(transfer, failure,
          failure == HttpFailure::kStalled ? "no byte came for too long" : "it took too long");
  }
}

void EventLoop::wait_for_events() {
  Clock::time_point due = curl_due_;
  if (!tasks_.empty()) due = std::min(due, tasks_.front().due);
  if (!active_.empty()) due = std::min(due, next_check_);
  int timeout_ms = -1;
  if (due != Clock::time_point::max()) {
    const Clock::time_point now = Clock::now();
    const auto wait =
        due <= now ? Clock::duration(0) : std::min<Clock::duration>(due - now, std::chrono::hours(1));
    timeout_ms = static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(wait).count());
  }
  sleeping_.store(true);
  {
    const std::lock_guard lock(mutex_);
    if (!inbox_.empty() || stopping_) timeout_ms = 0;
  }
  std::array<epoll_event, 128> events;
  const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout_ms);
  sleeping_.store(false);
  for (int i = 0; i < count; ++i) {
    const int fd = events[static_cast<std::size_t>(i)].data.fd;
    const std::uint32_t what = events[static_cast<std::size_t>(i)].events;
    if (fd == wake_) {
      std::uint64_t ignored;
      [[maybe_unused]] const auto got = read(wake_, &ignored, sizeof ignored);
    } else if (Socket& socket = sockets_[static_cast<std::size_t>(fd)]; socket.wanted == 0) {
      epoll_ctl(epoll_, EPOLL_CTL_DEL, fd,
                nullptr);  // an idle connection: libcurl looks at it before it uses it again
      socket.registered = 0;
    } else {
      drive_curl(fd, (what & EPOLLIN ? CURL_CSELECT_IN : 0) | (what & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                         (what & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0));
    }
  }
}

void EventLoop::shut_down() {
  while (!active_.empty()) abort(active_.back(), HttpFailure::kCancelled, "the client is stopping");
  std::vector<Command> left;
  {
    const std::lock_guard lock(mutex_);
    left.swap(inbox_);
  }
  for (Command& command : left) {
    if (!command.transfer || command.cancel) continue;
    command.transfer->fail(HttpFailure::kCancelled, "the client is stopping");
    finished_(std::move(command.transfer));
  }
  tasks_.clear();
  idle_.clear();
  multi_.reset();  // closes the connections
  thread_.store({});
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  ended_.notify_all();
}

// Keep-alive makes libcurl drop its interest in a socket after each answer and take it up again with the next
// request. So a socket that is not wanted stays with epoll until it wakes the loop for nothing, or is closed.
int EventLoop::on_socket(CURL*, curl_socket_t fd, int what, void* self, void*) {
  auto& loop = *static_cast<EventLoop*>(self);
  if (loop.sockets_.size() <= static_cast<std::size_t>(fd))
    loop.sockets_.resize(static_cast<std::size_t>(fd) + 64);
  Socket& socket = loop.sockets_[static_cast<std::size_t>(fd)];
  socket.wanted = what == CURL_POLL_REMOVE
                      ? 0u
                      : (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
  if (socket.wanted == 0 || socket.wanted == socket.registered) return 0;
  epoll_event event{};
  event.events = socket.wanted;
  event.data.fd = fd;
  if (epoll_ctl(loop.epoll_, socket.registered == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) != 0)
    epoll_ctl(loop.epoll_, errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
  socket.registered = socket.wanted;
  return 0;
}

int EventLoop::on_timer(CURLM*, long timeout_ms, void* self) {
  auto& loop = *static_cast<EventLoop*>(self);
  if (timeout_ms < 0) {
    loop.curl_due_ = Clock::time_point::max();
  } else if (timeout_ms == 0) {
    loop.curl_due_ = Clock::time_point::min();
  } else {
    loop.curl_due_ = Clock::now() + std::chrono::milliseconds(timeout_ms);
  }
  return 0;
}

int EventLoop::on_close(void* self, curl_socket_t fd) {
  auto& loop = *static_cast<EventLoop*>(self);
  if (static_cast<std::size_t>(fd) < loop.sockets_.size()) loop.sockets_[static_cast<std::size_t>(fd)] = {};
  return close(fd);
}

}  // namespace alnair
