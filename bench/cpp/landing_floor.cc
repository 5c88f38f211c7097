// What no client of a Redis server can do without that receives values, checks them by their content hash and keeps them in shared
// memory: each step in a loop of its own on one thread, in microseconds of CPU a value, as one line of JSON.
//
//   bench_landing_floor PORT SERVER_PID DIRECTORY BYTES COUNT [ROUNDS]
//
// A plain redis-server on 127.0.0.1, whose keys floor:* are written; DIRECTORY: where segments of 64 MiB are made and removed. Every
// round has all steps; each step does what the one before it does and one thing more, over bytes that have just come, so that what it
// costs is the difference of two loops. Medians of the rounds (5).
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cache/record.h"
#include "cpu_seconds.h"
#include "median.h"

namespace {

using alnair::ContentHash;
using Bytes = std::span<const std::byte>;

constexpr std::uint64_t kSegment = 64u << 20;  // bytes, as in node memory
constexpr std::uint64_t kStep = 32u << 20;     // reserved at once
constexpr std::uint64_t kWindow = 1u << 20;    // bytes asked for at once, as the client does
constexpr std::uint64_t kKeys = 256;           // the server's values

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(errno))); }

// CPU time of the server so far: of all its threads.
double server_seconds(const std::string& pid) {
  std::ifstream stat("/proc/" + pid + "/schedstat");
  double nanoseconds = 0;
  if (!(stat >> nanoseconds)) fail("the server's schedstat");
  return nanoseconds / 1e9;
}

// One connection, a window of GETs at a time; values lie in buffers that are used again.
class Receiver {
 public:
  Receiver(int port, std::uint64_t bytes) : bytes_(bytes), values_(std::max<std::uint64_t>(1, kWindow / bytes)) {
    socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail("connect");
    const int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    head_ = fmt::format("${}\r\n", bytes);
    for (auto& value : values_) value.resize(head_.size() + bytes + 2);
  }
  ~Receiver() { close(socket_); }
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  void fill() {
    std::mt19937_64 random(1);
    std::string value(bytes_, '\0');
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      for (char& byte : value) byte = static_cast<char>(random());
      const std::string name = name_of(key);
      send_all(fmt::format("*3\r\n$3\r\nSET\r\n${}\r\n{}\r\n${}\r\n{}\r\n", name.size(), name, bytes_, value));
      std::array<char, 5> ok;
      receive_all(ok.data(), ok.size());
    }
  }

  // Calls `take` with `count` values.
  template <typename Take>
  void receive(std::uint64_t count, const Take& take) {
    for (std::uint64_t done = 0; done < count; done += values_.size()) {
      std::string request;
      for (std::size_t i = 0; i < values_.size(); ++i) {
        const std::string name = name_of((done + i) % kKeys);
        request += fmt::format("*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n", name.size(), name);
      }
      send_all(request);
      for (std::string& value : values_) {
        receive_all(value.data(), value.size());
        if (!value.starts_with(head_)) throw std::runtime_error("the server answers something else");
        take(std::as_bytes(std::span(value)).subspan(head_.size(), bytes_));
      }
    }
  }

 private:
  static std::string name_of(std::uint64_t key) { return fmt::format("floor:{}", key); }
  void send_all(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) fail("send");
      text.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void receive_all(char* to, std::size_t size) {
    while (size > 0) {
      const ssize_t n = recv(socket_, to, size, MSG_WAITALL);
      if (n <= 0) fail("recv");
      to += n;
      size -= static_cast<std::size_t>(n);
    }
  }

  const std::uint64_t bytes_;
  std::vector<std::string> values_;
  std::string head_;
  int socket_ = -1;
};

// Files as node memory's, which go with this object.
class Segments {
 public:
  explicit Segments(std::string directory) : directory_(std::move(directory)) {}
  ~Segments() {
    for (const auto& [fd, mapping] : all_) {
      if (mapping != nullptr) munmap(mapping, kSegment);
      close(fd);
    }
  }
  Segments(const Segments&) = delete;
  Segments& operator=(const Segments&) = delete;

  void make_room(std::uint64_t size) {
    if (all_.empty() || position_ + size > kSegment) {
      const std::string path = fmt::format("{}/segment-{}", directory_, all_.size());
      const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
      if (fd < 0) fail(path);
      unlink(path.c_str());
      all_.push_back({fd, nullptr});
      position_ = reserved_ = 0;
    }
    if (position_ + size <= reserved_) return;
    if (posix_fallocate(all_.back().fd, static_cast<off_t>(reserved_), static_cast<off_t>(kStep)) != 0) fail("fallocate");
    reserved_ += kStep;
  }
  // Reserves without writing.
  void skip(std::uint64_t size) {
    make_room(size);
    position_ += size;
  }
  void write(const alnair::RecordHeader& header, Bytes bytes) {
    const std::uint64_t size = alnair::record_size(bytes.size());
    make_room(size);
    std::array<iovec, 2> parts{{{const_cast<alnair::RecordHeader*>(&header), sizeof header},
                                {const_cast<std::byte*>(bytes.data()), bytes.size()}}};
    if (pwritev(all_.back().fd, parts.data(), 2, static_cast<off_t>(position_)) < 0) fail("pwritev");
    position_ += size;
  }
  // The record that was written last.
  Bytes last(std::uint64_t bytes) {
    Segment& segment = all_.back();
    if (segment.mapping == nullptr) {
      segment.mapping = mmap(nullptr, kSegment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, segment.fd, 0);
      if (segment.mapping == MAP_FAILED) fail("mmap");
    }
    const std::uint64_t begin = position_ - alnair::record_size(bytes) + sizeof(alnair::RecordHeader);
    return {static_cast<const std::byte*>(segment.mapping) + begin, bytes};
  }

 private:
  struct Segment {
    int fd;
    void* mapping;
  };
  const std::string directory_;
  std::vector<Segment> all_;
  std::uint64_t position_ = 0, reserved_ = 0;
};

enum Step : int { kReceive, kHash, kChecksum, kReserve, kWrite, kReadBack, kSteps };
constexpr std::array<const char*, kSteps> kNames{"receive", "hash", "checksum", "reserve", "write", "read_back"};

int run(int port, const std::string& pid, const std::string& directory, std::uint64_t bytes, std::uint64_t count, int rounds) {
  Receiver receiver(port, bytes);
  receiver.fill();
  std::map<std::string, std::vector<double>> microseconds;
  std::uint64_t sum = 0;
  for (int round = 0; round < rounds; ++round) {
    double before = 0;
    for (int last = 0; last < kSteps; ++last) {
      Segments segments(directory);
      const double client = cpu_seconds(), server = server_seconds(pid);
      receiver.receive(count, [&](Bytes value) {
        ContentHash hash;
        alnair::RecordHeader header;
        if (last >= kHash) hash = alnair::content_hash(value);
        if (last >= kChecksum) header = alnair::make_record_header(hash, value, 1);
        if (last == kReserve) segments.skip(alnair::record_size(value.size()));
        if (last >= kWrite) segments.write(header, value);
        if (last >= kReadBack && !alnair::verify_record(header, segments.last(value.size()), 1))
          throw std::runtime_error("what was written is not what is read");
        sum ^= first64(hash) ^ header.checksum;
      });
      const double now = 1e6 * (cpu_seconds() - client) / static_cast<double>(count);
      microseconds[kNames[static_cast<std::size_t>(last)]].push_back(now - before);
      microseconds["server"].push_back(1e6 * (server_seconds(pid) - server) / static_cast<double>(count));
      before = now;
    }
    microseconds["client"].push_back(before);
  }
  std::string line;
  for (const auto& [name, values] : microseconds) line += fmt::format("\"{}\": {:.1f}, ", name, median(values));
  fmt::print("{{{}\"sum\": {}}}\n", line, sum % 10);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) return fmt::print(stderr, "see the top of bench/cpp/landing_floor.cc\n"), 2;
  try {
    return run(std::atoi(argv[1]), argv[2], argv[3], std::strtoull(argv[4], nullptr, 10), std::strtoull(argv[5], nullptr, 10),
               argc > 6 ? std::atoi(argv[6]) : 5);
  } catch (const std::exception& error) {
    return fmt::print(stderr, "{}\n", error.what()), 1;
  }
}
