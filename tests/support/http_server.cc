#include "support/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <stdexcept>

namespace alnair::testing {
namespace {

int bind_to_loopback(int& port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("cannot bind to 127.0.0.1");
  port = ntohs(address.sin_port);
  return listener;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

SeenRequest parse(std::string_view head) {
  SeenRequest request;
  std::size_t line_end = head.find("\r\n");
  const std::string_view first = head.substr(0, line_end);
  request.method = first.substr(0, first.find(' '));
  const std::size_t begin = first.find(' ') + 1;
  request.target = first.substr(begin, first.rfind(' ') - begin);
  // A client that believes to talk to a proxy sends an absolute URL.
  const std::size_t question = request.target.find('?');
  request.path = request.target.substr(0, question);
  std::string_view query =
      question == std::string::npos ? "" : std::string_view(request.target).substr(question + 1);
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const std::size_t equals = pair.find('=');
    request.query[percent_decoded(pair.substr(0, equals), false)] =
        equals == std::string_view::npos ? "" : percent_decoded(pair.substr(equals + 1), false);
  }
  while (line_end + 2 < head.size()) {
    const std::size_t start = line_end + 2;
    line_end = head.find("\r\n", start);
    const std::string_view line = head.substr(start, line_end - start);
    const std::size_t colon = line.find(':');
    if (line.empty() || colon == std::string_view::npos) break;
    const std::size_t value = line.find_first_not_of(' ', colon + 1);
    request.headers[lower(std::string(line.substr(0, colon)))] =
        value == std::string_view::npos ? "" : std::string(line.substr(value));
  }
  return request;
}

}  // namespace

std::string percent_decoded(std::string_view text, bool plus_is_space) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      result += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      result += plus_is_space && text[i] == '+' ? ' ' : text[i];
    }
  }
  return result;
}

int unused_port() {
  int port = 0;
  close(bind_to_loopback(port));
  return port;
}

HttpServer::HttpServer(Handler handler) : handler_(std::move(handler)) {
  listener_ = bind_to_loopback(port_);
  if (listen(listener_, 512) != 0) throw std::runtime_error("cannot listen on 127.0.0.1");
  accepter_ = std::thread([this] { accept_loop(); });
}

HttpServer::~HttpServer() {
  stopping_.store(true);
  shutdown(listener_, SHUT_RDWR);
  accepter_.join();
  close(listener_);
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    for (const int socket : sockets_) shutdown(socket, SHUT_RDWR);
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

void HttpServer::accept_loop() {
  while (!stopping_.load()) {
    const int socket = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const std::lock_guard lock(mutex_);
    sockets_.insert(socket);
    threads_.emplace_back([this, socket, number = ++connections_] { serve(socket, number); });
  }
}

void HttpServer::serve(int socket, int connection) {
  std::string buffer;
  std::array<char, 65536> piece;
  for (bool more = true; more && !stopping_.load();) {
    std::size_t head_end;
    while ((head_end = buffer.find("\r\n\r\n")) == std::string::npos) {
      const ssize_t got = recv(socket, piece.data(), piece.size(), 0);
      if (got <= 0) break;
      buffer.append(piece.data(), static_cast<std::size_t>(got));
      if (buffer.front() == 0x16) {  // a TLS handshake
        send_all(socket, "HTTP/1.1 400 Bad Request\r\n\r\n");
        break;
      }
    }
    if (head_end == std::string::npos) break;
    SeenRequest request = parse(std::string_view(buffer).substr(0, head_end + 2));
    request.connection = connection;
    buffer.erase(0, head_end + 4);
    const std::string length = request.header("content-length");
    const std::size_t body = length.empty() ? 0 : std::stoul(length);
    while (buffer.size() < body) {
      const ssize_t got = recv(socket, piece.data(), piece.size(), 0);
      if (got <= 0) break;
      buffer.append(piece.data(), static_cast<std::size_t>(got));
    }
    request.body = buffer.substr(0, body);
    buffer.erase(0, body);
    more = answer(socket, handler_(request), request.method == "HEAD");
  }
  const std::lock_guard lock(mutex_);
  sockets_.erase(socket);
  close(socket);
}

// False: the connection is over.
bool HttpServer::answer(int socket, const Reply& reply, bool head) {
  if (!pause(reply.first_byte_delay)) return false;
  if (reply.reset) {
    const linger now{1, 0};
    setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    return false;
  }
  if (!reply.raw.empty()) return send_all(socket, reply.raw) && !reply.close;
  std::string text = fmt::format("HTTP/1.1 {} Status\r\n", reply.status);
  if (reply.chunked) {
    text += "Transfer-Encoding: chunked\r\n";
  } else {
    text += fmt::format("Content-Length: {}\r\n", reply.announce.value_or(reply.body.size()));
  }
  for (const auto& [name, value] : reply.headers) text += name + ": " + value + "\r\n";
  text += "\r\n";
  if (head) return send_all(socket, text) && !reply.close;
  const std::size_t limit =
      std::min(reply.stall_after.value_or(reply.body.size()), reply.cut_after.value_or(reply.body.size()));
  const std::string body = reply.body.substr(0, limit);
  if (reply.chunked) {
    if (!body.empty()) text += fmt::format("{:x}\r\n{}\r\n", body.size(), body);
    if (body.size() == reply.body.size()) text += "0\r\n\r\n";
  } else {
    text += body;
  }
  if (!send_all(socket, text)) return false;
  if (reply.cut_after) return false;
  if (reply.stall_after) {
    // Until the client gives up, or the server is stopped.
    char ignored;
    while (!stopping_.load() && recv(socket, &ignored, 1, 0) > 0) continue;
    return false;
  }
  return !reply.close;
}

bool HttpServer::send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool HttpServer::pause(std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (!stopping_.load() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(end - std::chrono::steady_clock::now(),
                                                                   std::chrono::milliseconds(5)));
  return !stopping_.load();
}

}  // namespace alnair::testing
