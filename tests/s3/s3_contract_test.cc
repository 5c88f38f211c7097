// The contract of object sources, over the fake and over real servers that check signatures.
#include "source/contract.h"
#include "support/fake_s3.h"
#include "support/s3_process.h"

namespace alnair::testing {
namespace {

class FakeFixture final : public SourceFixture {
 public:
  void put(const std::string& key, const std::string& bytes) override { s3_.put(key, bytes); }
  void remove(const std::string& key) override { s3_.remove(key); }
  std::shared_ptr<ObjectSource> source() override { return open_s3_source("bucket", s3_.options()); }

 private:
  FakeS3 s3_;
};

// One server for all tests of a program; each test has a bucket.
class ProcessFixture final : public SourceFixture {
 public:
  ProcessFixture(std::shared_ptr<S3Process> server, Deviations deviations)
      : server_(std::move(server)), deviations_(deviations), bucket_(fmt::format("bucket{}", ++buckets_)) {
    server_->make_bucket(bucket_);
  }
  void put(const std::string& key, const std::string& bytes) override { server_->put(bucket_, key, bytes); }
  void remove(const std::string& key) override { server_->remove(bucket_, key); }
  std::shared_ptr<ObjectSource> source() override { return open_s3_source(bucket_, server_->options()); }
  Deviations deviations() const override { return deviations_; }

 private:
  inline static int buckets_ = 0;
  const std::shared_ptr<S3Process> server_;
  const Deviations deviations_;
  const std::string bucket_;
};

template <S3Process::Program kProgram>
std::unique_ptr<SourceFixture> make_process_fixture() {
  static const std::shared_ptr<S3Process> server = S3Process::start(kProgram);
  if (!server) return nullptr;
  Deviations deviations{.keys_are_paths = true, .max_component = 255};
  deviations.no_control_characters = kProgram == S3Process::Program::kRclone;  // it swaps them for look-alikes
  return std::make_unique<ProcessFixture>(server, deviations);
}

INSTANTIATE_TEST_SUITE_P(
    S3, ObjectSourceContract,
    ::testing::Values(SourceFactory{"fake", [] { return std::make_unique<FakeFixture>(); }},
                      SourceFactory{"rclone", make_process_fixture<S3Process::Program::kRclone>},
                      SourceFactory{"versitygw", make_process_fixture<S3Process::Program::kVersitygw>}),
    source_name);

}  // namespace
}  // namespace alnair::testing
