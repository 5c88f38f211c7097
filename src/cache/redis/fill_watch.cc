#include "cache/redis/fill_watch.h"

namespace alnair {
namespace {

constexpr auto kAskAtOnceAfter = std::chrono::milliseconds(200);  // when this process alone may have filled much of what was free

}  // namespace

FillRule FillWatch::rule(std::uint64_t bytes) {
  FillRule rule;
  bool due = false;
  {
    const std::lock_guard lock(mutex_);
    since_ += bytes + bytes / 4;  // what the allocator may make of it
    redis::ServerFacts now = facts_;
    now.used_memory += since_;
    rule = fill_rule(now, directory_, relied_on_);
    const std::uint64_t free = facts_.maxmemory > facts_.used_memory ? facts_.maxmemory - facts_.used_memory : 0;
    const auto age = Clock::now() - asked_;
    const bool filling = facts_.maxmemory > 0 && since_ > free / 8;
    due = !asking_ && (asked_ == Clock::time_point() || age > ask_after_ || (filling && age > kAskAtOnceAfter));
    asking_ |= due;
  }
  if (due) ask();
  return rule;
}

void FillWatch::ask() {
  std::uint64_t before = 0;  // was stored, and the servers will count it
  {
    const std::lock_guard lock(mutex_);
    before = since_;
  }
  client_->facts([self = shared_from_this(), before](redis::ServerFacts&& facts, redis::Result&& asked) {
    // Whether an expiry means that a chunk is durable somewhere matters only to who has no directory.
    std::vector<redis::Command> commands;
    commands.push_back({.args = {"EXISTS", self->keys_.directory()}});
    self->client_->run(std::move(commands), [self, before, facts = std::move(facts), whole = asked.ok()](
                                                std::size_t, redis::Result&& recorded) {
      const std::lock_guard lock(self->mutex_);
      self->asking_ = false;
      self->asked_ = Clock::now();
      if (whole || self->facts_.mode == redis::Mode::kAuto) self->facts_ = facts;  // else what was known holds
      if (recorded.ok()) self->relied_on_ = recorded.reply.integer > 0;
      self->since_ -= before;
    });
  });
}

}  // namespace alnair
