#include "support/ferretdb.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "core/file.h"
#include "support/http_server.h"

namespace alnair::testing {

bool FerretDb::available() {
  const char* path = std::getenv("ALNAIR_TEST_FERRETDB");
  return path != nullptr && access(path, X_OK) == 0;
}

FerretDb::FerretDb() : port_(unused_port()) { start_again(); }

void FerretDb::start_again() {
  process_.emplace(std::vector<std::string>{std::getenv("ALNAIR_TEST_FERRETDB"), fmt::format("127.0.0.1:{}", port_),
                                            directory_.path()});
  if (!listens()) throw std::runtime_error("FerretDB does not start");
}

bool FerretDb::listens() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port_));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (process_->running() && std::chrono::steady_clock::now() < deadline) {
    const FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

std::string FerretDb::uri(const std::string& database) const {
  return fmt::format("mongodb://127.0.0.1:{}/{}", port_, database);
}

}  // namespace alnair::testing
