#include "support/s3_process.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "support/http_server.h"

namespace alnair::testing {
namespace {

constexpr const char* kKeyId = "TESTKEYID";
constexpr const char* kSecret = "testsecret0123456789";

}  // namespace

std::unique_ptr<S3Process> S3Process::start(Program program, const std::string& certificate,
                                            const std::string& key) {
  const char* variable = program == Program::kRclone ? "ALNAIR_TEST_RCLONE" : "ALNAIR_TEST_VERSITYGW";
  const char* path = std::getenv(variable);
  if (path == nullptr || access(path, X_OK) != 0) {
    fmt::print(stderr, "{} names no program: run tests/run, which sets it\n", variable);
    return nullptr;
  }
  return std::unique_ptr<S3Process>(new S3Process(program, path, certificate, key));
}

S3Process::S3Process(Program program, const std::string& path, const std::string& certificate,
                     const std::string& key)
    : program_(program),
      ca_bundle_(certificate),
      http_(make_http_client({.threads = 1, .ca_bundle = certificate})) {
  for (int attempt = 1;; ++attempt) {  // somebody else may take the port meanwhile
    start_on(unused_port(), path, certificate, key);
    if (answers()) return;
    if (attempt == 5) throw std::runtime_error("the S3 server does not start");
  }
}

void S3Process::start_on(int port, const std::string& path, const std::string& certificate, const std::string& key) {
  const bool tls = !certificate.empty();
  const std::string address = fmt::format("127.0.0.1:{}", port);
  host_ = tls ? fmt::format("localhost:{}", port) : address;
  url_ = (tls ? "https://" : "http://") + host_;
  std::vector<std::string> arguments{path};
  if (program_ == Program::kRclone) {
    arguments.insert(arguments.end(), {"serve", "s3", "--config", "/dev/null", "--addr", address,
                                       "--auth-key", fmt::format("{},{}", kKeyId, kSecret),
                                       "--vfs-cache-mode", "off", "--dir-cache-time", "0s"});
    if (tls) arguments.insert(arguments.end(), {"--cert", certificate, "--key", key});
  } else {
    arguments.insert(arguments.end(), {"--quiet", "--keep-alive", "--port", address, "--virtual-domain",
                                       fmt::format("s3.localhost:{}", port)});
    if (tls) arguments.insert(arguments.end(), {"--cert", certificate, "--key", key});
    arguments.push_back("posix");
  }
  arguments.push_back(directory_.path());
  process_.emplace(arguments, std::vector<std::pair<std::string, std::string>>{{"ROOT_ACCESS_KEY", kKeyId},
                                                                               {"ROOT_SECRET_KEY", kSecret}});
}

S3Options S3Process::options() const {
  S3Options options;
  options.endpoint_url = url_;
  options.region = "us-east-1";
  options.credentials = S3Credentials{kKeyId, kSecret, ""};
  options.ca_bundle = ca_bundle_;
  return options;
}

S3Options S3Process::virtual_host_options() const {
  S3Options result = options();
  result.endpoint_url = "http://s3.localhost" + url_.substr(url_.rfind(':'));  // libcurl knows where *.localhost is
  result.addressing_style = AddressingStyle::kVirtual;
  return result;
}

bool S3Process::answers() {
  for (int i = 0; i < 1200; ++i) {
    HttpRequest request;
    request.url = url_ + "/";
    const bool answered = http_->call(std::move(request)).status != 0;
    if (!process_->running()) return false;  // it may be a stranger who answers on this port
    if (answered) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

HttpResponse S3Process::send(HttpMethod method, const std::string& bucket, const std::string& key,
                             const std::string& body) {
  const std::string path = "/" + bucket + (key.empty() ? "" : "/" + percent_encoded(key, Slashes::kKeep));
  const std::string hash = hex(sha256(body));
  const std::vector<Header> headers{{"Host", host_}};
  SigningRequest signing;
  signing.method = method == HttpMethod::kPut ? "PUT" : "DELETE";
  signing.encoded_path = path;
  signing.headers = headers;
  signing.payload_hash = hash;
  HttpRequest request;
  request.method = method;
  request.url = url_ + path;
  request.body = body;
  for (const Header& header : sign_headers(signing, {kKeyId, kSecret, ""}, "us-east-1",
                                           std::chrono::system_clock::now(), signing_keys_))
    request.headers.add(header.name, header.value);
  request.headers.add("Content-Type", "application/octet-stream");
  HttpResponse response = http_->call(std::move(request));
  if (!response.ok())
    throw std::runtime_error(fmt::format("the S3 server refuses {}: {} {} {}", path, response.status,
                                         response.failure_text, response.body.text()));
  return response;
}

void S3Process::make_bucket(const std::string& bucket) {
  if (program_ == Program::kRclone) {
    std::filesystem::create_directory(directory(bucket));
  } else {
    send(HttpMethod::kPut, bucket, "", "");
  }
}

void S3Process::put(const std::string& bucket, const std::string& key, const std::string& bytes) {
  if (program_ == Program::kVersitygw) {  // files laid in its folder have no ETag
    send(HttpMethod::kPut, bucket, key, bytes);
    return;
  }
  const std::filesystem::path path = directory(bucket) + "/" + key;
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

void S3Process::remove(const std::string& bucket, const std::string& key) {
  if (program_ == Program::kRclone) {
    std::filesystem::remove(directory(bucket) + "/" + key);
  } else {
    send(HttpMethod::kDelete, bucket, key, "");
  }
}

}  // namespace alnair::testing
