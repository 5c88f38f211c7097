// A real S3 server in a process of its own, which checks signatures: rclone or versitygw. It listens on a
// free port of 127.0.0.1, and is killed with this object, or with this process.
//
// The programs come from ALNAIR_TEST_RCLONE and ALNAIR_TEST_VERSITYGW (tests/run sets them).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "alnair/source/s3_source.h"
#include "http/client.h"
#include "s3/sigv4.h"
#include "support/child_process.h"
#include "support/temporary_directory.h"

namespace alnair::testing {

class S3Process {
 public:
  enum class Program { kRclone, kVersitygw };

  // Null, with a line on stderr, where the program is not there. Throws if it does not start. `certificate`
  // and `key`: PEM files, to speak TLS.
  static std::unique_ptr<S3Process> start(Program program, const std::string& certificate = "",
                                          const std::string& key = "");

  const std::string& url() const { return url_; }
  S3Options options() const;
  S3Options virtual_host_options() const;  // versitygw only: http://BUCKET.s3.localhost:PORT/KEY

  void make_bucket(const std::string& bucket);
  void put(const std::string& bucket, const std::string& key, const std::string& bytes);
  void remove(const std::string& bucket, const std::string& key);
  std::string directory(const std::string& bucket) const { return directory_ / bucket; }

 private:
  S3Process(Program program, const std::string& path, const std::string& certificate, const std::string& key);
  void start_on(int port, const std::string& path, const std::string& certificate, const std::string& key);
  bool answers();  // once it does; false: it has ended
  HttpResponse send(HttpMethod method, const std::string& bucket, const std::string& key,
                    const std::string& body);

  const Program program_;
  TemporaryDirectory directory_;
  std::string ca_bundle_;
  std::string host_;
  std::string url_;
  std::optional<ChildProcess> process_;
  SigningKeyCache signing_keys_;
  std::shared_ptr<HttpClient> http_;
};

}  // namespace alnair::testing
