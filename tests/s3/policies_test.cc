// The pure policies of the S3 source: retry budget, backoff, concurrency, hedging, checksums.
#include <gtest/gtest.h>

#include <string>

#include "s3/adaptive_limit.h"
#include "s3/checksum.h"
#include "s3/hedge_policy.h"
#include "s3/retry_policy.h"

namespace alnair {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Backoff, DoublesItsBoundAndIsDrawnBelowIt) {
  EXPECT_EQ(max_backoff(RetryReason::kTransient, 1), milliseconds(100));
  EXPECT_EQ(max_backoff(RetryReason::kTransient, 3), milliseconds(400));
  EXPECT_EQ(max_backoff(RetryReason::kThrottled, 1), milliseconds(500));
  EXPECT_EQ(max_backoff(RetryReason::kThrottled, 1000), seconds(20));
  EXPECT_EQ(backoff(RetryReason::kTransient, 3, 0.0), milliseconds(0));
  EXPECT_EQ(backoff(RetryReason::kTransient, 3, 0.5), milliseconds(200));
}

TEST(RetryBudget, DelaysRetriesWhenItIsSpentAndFillsAgain) {
  RetryBudget budget;
  const Clock::time_point start = Clock::time_point(seconds(1000));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(budget.take(RetryReason::kTransient, start), milliseconds(0));
  const milliseconds wait = budget.take(RetryReason::kTransient, start);
  EXPECT_GT(wait, milliseconds(0));
  EXPECT_GT(budget.take(RetryReason::kTimeout, start), wait) << "a timeout costs twice as much";
  EXPECT_EQ(budget.take(RetryReason::kTransient, start + wait), milliseconds(0));
  for (int i = 0; i < 10; ++i) budget.succeeded(false);
  EXPECT_EQ(budget.take(RetryReason::kTimeout, start + wait), milliseconds(0));
}

TEST(AdaptiveLimit, HalvesOnceForEachWindowAndRecovers) {
  AdaptiveLimit limit(32);
  const Clock::time_point start = Clock::time_point(seconds(1000));
  EXPECT_FALSE(limit.succeeded());
  EXPECT_TRUE(limit.throttled(start));
  EXPECT_EQ(limit.limit(), 16);
  EXPECT_FALSE(limit.throttled(start + milliseconds(1))) << "what was in flight says nothing new";
  EXPECT_TRUE(limit.throttled(start + seconds(1)));
  EXPECT_EQ(limit.limit(), 8);
  for (int i = 0; i < 10; ++i) limit.throttled(start + seconds(10 + i));
  EXPECT_EQ(limit.limit(), 1);
  for (int i = 0; i < 2000; ++i) limit.succeeded();
  EXPECT_EQ(limit.limit(), 32);
}

TEST(HedgePolicy, LearnsWhatIsSlowAndKeepsToFivePercent) {
  HedgePolicy policy;
  EXPECT_GE(policy.threshold(), seconds(1)) << "nothing is known yet";
  for (int i = 0; i < 256; ++i) policy.first_byte(milliseconds(5));
  EXPECT_EQ(policy.threshold(), milliseconds(200));
  for (int i = 0; i < 256; ++i) policy.first_byte(milliseconds(i % 10 == 0 ? 900 : 300));
  EXPECT_EQ(policy.threshold(), milliseconds(900));
  int hedges = 0;
  for (int i = 0; i < 1000; ++i) {
    policy.sent();
    hedges += policy.take();
  }
  EXPECT_LE(hedges, 52);
  EXPECT_GE(hedges, 45);
}

TEST(Checksums, HaveTheirPublishedCheckValues) {
  EXPECT_EQ(crc32(bytes_of("123456789")), 0xcbf43926u);
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xe3069283u);
  EXPECT_EQ(crc64nvme(bytes_of("123456789")), 0xae8b14860a799888u);
  const std::string text(1000, 'x');
  EXPECT_EQ(crc32c(bytes_of(text).subspan(333), crc32c(bytes_of(text).first(333))), crc32c(bytes_of(text)));
  EXPECT_EQ(crc64nvme(bytes_of(text).subspan(17), crc64nvme(bytes_of(text).first(17))),
            crc64nvme(bytes_of(text)));
  EXPECT_EQ(md5_hex(bytes_of("abc")), "900150983cd24fb0d6963f7d28e17f72");
}

TEST(Checksums, VerifyWholeBodiesOnly) {
  HttpHeaders headers;
  EXPECT_EQ(verify_checksum(headers, bytes_of("123456789")), ChecksumVerdict::kAbsent);
  headers.add("x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=");
  EXPECT_EQ(verify_checksum(headers, bytes_of("123456789")), ChecksumVerdict::kMatches);
  EXPECT_EQ(verify_checksum(headers, bytes_of("123456780")), ChecksumVerdict::kDiffers);
  headers.add("x-amz-checksum-type", "COMPOSITE");
  EXPECT_EQ(verify_checksum(headers, bytes_of("123456780")), ChecksumVerdict::kAbsent);
  EXPECT_TRUE(looks_like_md5("900150983cd24fb0d6963f7d28e17f72"));
  EXPECT_FALSE(looks_like_md5("900150983cd24fb0d6963f7d28e17f72-3"));
}

}  // namespace
}  // namespace alnair
