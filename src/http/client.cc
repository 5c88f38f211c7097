#include "http/client.h"

#include <condition_variable>
#include <mutex>

namespace alnair {

HttpResponse HttpClient::call(HttpRequest request, const std::function<void()>& interrupt) {
  struct Waiter {
    std::mutex mutex;
    std::condition_variable ready;
    std::optional<HttpResponse> response;
  };
  auto waiter = std::make_shared<Waiter>();  // outlives this call if `interrupt` throws
  const auto transfer = start(std::move(request), [waiter](HttpResponse&& response) {
    const std::lock_guard lock(waiter->mutex);
    waiter->response = std::move(response);
    waiter->ready.notify_one();
  });
  std::unique_lock lock(waiter->mutex);
  while (!waiter->ready.wait_for(lock, std::chrono::milliseconds(100),
                                 [&] { return waiter->response.has_value(); })) {
    if (!interrupt) continue;
    lock.unlock();
    try {
      interrupt();
    } catch (...) {
      transfer->cancel();
      throw;
    }
    lock.lock();
  }
  return std::move(*waiter->response);
}

}  // namespace alnair
