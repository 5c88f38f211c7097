#include "redis/reactor.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "alnair/core/error.h"

namespace alnair::redis {
namespace {

constexpr auto kLaterDue = [](const auto& a, const auto& b) { return a.due > b.due; };

}  // namespace

Reactor::Reactor() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  wake_ = epoll_ < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  if (wake_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) != 0) {
    const int error = errno;
    if (wake_ >= 0) close(wake_);
    if (epoll_ >= 0) close(epoll_);
    throw CacheError(fmt::format("redis: the system refuses a descriptor: {}.", std::strerror(error)));
  }
}

Reactor::~Reactor() {
  close(wake_);
  close(epoll_);
}

void Reactor::watch(int fd, std::uint32_t events, void* who) {
  const auto index = static_cast<std::size_t>(fd);
  if (watched_.size() <= index) watched_.resize(index + 64);
  epoll_event event{};
  event.events = events;
  event.data.ptr = who;
  if (events == 0) {
    if (watched_[index]) epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    watched_[index] = false;
    return;
  }
  epoll_ctl(epoll_, watched_[index] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
  watched_[index] = true;
}

void Reactor::after(Clock::duration delay, std::function<void()> task) {
  tasks_.push_back({Clock::now() + delay, std::move(task)});
  std::push_heap(tasks_.begin(), tasks_.end(), kLaterDue);
}

void Reactor::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(wake_, &one, sizeof one);
}

void Reactor::wait(Clock::time_point latest, const std::function<void(void*, std::uint32_t)>& handle) {
  Clock::time_point now = Clock::now();
  while (!tasks_.empty() && tasks_.front().due <= now) {
    std::pop_heap(tasks_.begin(), tasks_.end(), kLaterDue);
    const std::function<void()> task = std::move(tasks_.back().run);
    tasks_.pop_back();
    task();
  }
  if (!tasks_.empty()) latest = std::min(latest, tasks_.front().due);
  now = Clock::now();
  int timeout_ms = 0;
  if (latest > now) {
    const auto left = std::min<Clock::duration>(latest - now, std::chrono::hours(1));
    timeout_ms = static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
  }
  std::array<epoll_event, 64> events;
  const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout_ms);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (event.data.ptr != nullptr) {
      handle(event.data.ptr, event.events);
    } else {
      std::uint64_t ignored;
      [[maybe_unused]] const auto got = read(wake_, &ignored, sizeof ignored);
    }
  }
}

}  // namespace alnair::redis
