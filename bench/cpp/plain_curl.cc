// Fetches URLs with libcurl's multi interface as its manual shows it: one thread, no signature, each body copied once. What a client over
// libcurl can reach at most on one core.
//
//   bench_plain_curl URL_PREFIX COUNT BYTES SECONDS IN_FLIGHT PART_BYTES    (URL_PREFIX0 to URL_PREFIX{COUNT-1}; PART_BYTES 0: whole)
//
// Prints one line of JSON.
#include <curl/curl.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cpu_seconds.h"

namespace {

struct Transfer {
  CURL* easy = nullptr;
  std::unique_ptr<char[]> body;
  std::size_t received = 0, room = 0;
};

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  if (transfer.received + size * count > transfer.room) return 0;
  std::memcpy(transfer.body.get() + transfer.received, data, size * count);
  transfer.received += size * count;
  return size * count;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    fmt::print(stderr, "usage: bench_plain_curl URL_PREFIX COUNT BYTES SECONDS IN_FLIGHT PART_BYTES\n");
    return 2;
  }
  const std::string prefix = argv[1];
  const std::size_t count = std::strtoull(argv[2], nullptr, 10), bytes = std::strtoull(argv[3], nullptr, 10);
  const double seconds = std::atof(argv[4]);
  const std::size_t in_flight = std::strtoull(argv[5], nullptr, 10), part = std::strtoull(argv[6], nullptr, 10);
  const std::size_t length = part == 0 ? bytes : part, parts = bytes / length;

  curl_global_init(CURL_GLOBAL_DEFAULT);
  CURLM* const multi = curl_multi_init();
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, static_cast<long>(in_flight));
  std::vector<Transfer> transfers(in_flight);
  std::size_t next = 0, done = 0, open = 0;
  const auto begin = [&](Transfer& transfer) {
    const std::size_t read = next++ % (count * parts);
    transfer.received = 0;
    curl_easy_setopt(transfer.easy, CURLOPT_URL, (prefix + std::to_string(read / parts)).c_str());
    if (parts > 1) {
      const std::size_t offset = read % parts * length;
      curl_easy_setopt(transfer.easy, CURLOPT_RANGE, fmt::format("{}-{}", offset, offset + length - 1).c_str());
    }
    curl_multi_add_handle(multi, transfer.easy);
    ++open;
  };
  const double cpu = cpu_seconds();
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [start] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  for (Transfer& transfer : transfers) {
    transfer.easy = curl_easy_init();
    transfer.room = length;
    transfer.body = std::make_unique<char[]>(length);
    curl_easy_setopt(transfer.easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(transfer.easy, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(transfer.easy, CURLOPT_PRIVATE, &transfer);
    curl_easy_setopt(transfer.easy, CURLOPT_BUFFERSIZE, 512L << 10);
    curl_easy_setopt(transfer.easy, CURLOPT_NOSIGNAL, 1L);
    begin(transfer);
  }
  while (open > 0) {
    int running = 0, left = 0;
    curl_multi_perform(multi, &running);
    bool begun = false;
    while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      Transfer* transfer = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
      if (message->data.result != CURLE_OK || transfer->received != length) {
        fmt::print(stderr, "{} bytes of {}: {}\n", transfer->received, length, curl_easy_strerror(message->data.result));
        return 1;
      }
      curl_multi_remove_handle(multi, transfer->easy);
      ++done;
      --open;
      if (elapsed() >= seconds) continue;
      begin(*transfer);
      begun = true;
    }
    if (!begun) curl_multi_poll(multi, nullptr, 0, 1000, nullptr);
  }
  fmt::print("{{\"reads\": {}, \"bytes\": {}, \"errors\": 0, \"wall\": {:.4f}, \"cpu\": {:.4f}}}\n", done, done * length, elapsed(),
             cpu_seconds() - cpu);
}
