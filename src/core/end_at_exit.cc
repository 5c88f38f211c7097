#include "core/end_at_exit.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "core/fork.h"

namespace alnair {

struct EndAtExit::Registry {
  std::mutex mutex;
  std::map<const EndAtExit*, std::function<void()>> live;  // guarded by mutex
};

std::shared_ptr<EndAtExit::Registry> EndAtExit::registry() {
  static auto* const local = new ForkLocal<Registry>([] { return std::make_shared<Registry>(); });  // never destroyed
  return local->get();
}

void EndAtExit::end_all() {
  std::vector<std::function<void()>> ends;
  {
    const auto all = registry();
    const std::lock_guard lock(all->mutex);
    for (const auto& [owner, end] : all->live) ends.push_back(end);
  }
  for (const auto& end : ends) end();
}

EndAtExit::EndAtExit(std::function<void()> end) : registry_(registry()) {
  static const int registered = std::atexit(end_all);
  (void)registered;
  const std::lock_guard lock(registry_->mutex);
  registry_->live.emplace(this, std::move(end));
}

EndAtExit::~EndAtExit() {
  const std::lock_guard lock(registry_->mutex);
  registry_->live.erase(this);
}

}  // namespace alnair
