#include <gmock/gmock.h>

#include "manager/identity/crypto.h"
#include "manager/identity/throttle.h"

namespace alnair::manager {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Tokens, AreRandomAndFitIntoAHeader) {
  const std::string a = random_token(), b = random_token();
  EXPECT_NE(a, b);
  EXPECT_EQ(a.size(), 43u);
  EXPECT_EQ(a.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), std::string::npos);
  EXPECT_EQ(random_id().size(), 24u);
}

TEST(Tokens, AreHashedWithSha256) {
  EXPECT_EQ(hash_token("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_TRUE(equal_secrets("abc", "abc"));
  EXPECT_FALSE(equal_secrets("abc", "abd"));
  EXPECT_FALSE(equal_secrets("abc", "ab"));
}

TEST(Passwords, AreCheckedAgainstTheirHash) {
  const std::string hash = hash_password("correct horse");
  EXPECT_TRUE(check_password("correct horse", hash));
  EXPECT_FALSE(check_password("correct horsE", hash));
  EXPECT_FALSE(check_password("", hash));
  EXPECT_NE(hash, hash_password("correct horse")) << "each has a salt of its own";
  EXPECT_EQ(hash.find("correct"), std::string::npos);
}

// RFC 7914, section 12, the third vector, cut to the 32 bytes that are kept.
TEST(Passwords, AreHashedAsTheStandardSays) {
  EXPECT_FALSE(check_password(
      "pleaseletmein",
      "scrypt$14$8$1$536f6469756d43686c6f72696465$7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"))
      << "a salt of another length is none of ours";
  EXPECT_FALSE(check_password("p", "scrypt$30$8$1$00000000000000000000000000000000$" + std::string(64, '0')))
      << "more memory than is allowed";
  for (const char* malformed : {"", "scrypt", "scrypt$15$8$1$zz$zz", "bcrypt$15$8$1$00$00"})
    EXPECT_FALSE(check_password("p", malformed)) << malformed;
}

TEST(Sealer, OpensWhatItSealedForTheSameContext) {
  const auto sealer = Sealer::from_hex(Sealer::new_key());
  ASSERT_TRUE(sealer);
  const std::string sealed = sealer->seal("a secret", "s3:alice");
  EXPECT_EQ(sealer->open(sealed, "s3:alice"), "a secret");
  EXPECT_EQ(sealer->open(sealed, "s3:bob"), std::nullopt);
  EXPECT_EQ(sealed.find("secret"), std::string::npos);
  EXPECT_NE(sealed, sealer->seal("a secret", "s3:alice")) << "each has a nonce of its own";
  EXPECT_EQ(sealer->open(sealer->seal("", "x"), "x"), "");
}

TEST(Sealer, RefusesWhatIsDamagedOrSealedUnderAnotherKey) {
  const auto sealer = Sealer::from_hex(std::string(64, 'a')), other = Sealer::from_hex(std::string(64, 'b'));
  std::string sealed = sealer->seal("a secret", "x");
  EXPECT_EQ(other->open(sealed, "x"), std::nullopt);
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    sealed[i] ^= 1;
    EXPECT_EQ(sealer->open(sealed, "x"), std::nullopt) << "byte " << i;
    sealed[i] ^= 1;
  }
  EXPECT_EQ(sealer->open(sealed.substr(0, 20), "x"), std::nullopt);
  EXPECT_FALSE(Sealer::from_hex("abc"));
  EXPECT_FALSE(Sealer::from_hex(std::string(64, 'g')));
}

TEST(Throttle, LetsAFewFailuresPassAndThenDoublesTheWait) {
  Throttle throttle(2, seconds(10), 100);
  const Throttle::Time start{seconds(1000)};
  const auto waits = [&](Throttle::Time now) { return throttle.wait("alice", now); };
  for (int i = 0; i < 2; ++i) {
    throttle.failed("alice", start);
    EXPECT_EQ(waits(start), milliseconds(0));
  }
  throttle.failed("alice", start);
  EXPECT_EQ(waits(start), seconds(1));
  EXPECT_EQ(waits(start + milliseconds(400)), milliseconds(600));
  EXPECT_EQ(waits(start + seconds(1)), milliseconds(0));
  throttle.failed("alice", start);
  EXPECT_EQ(waits(start), seconds(2));
  for (int i = 0; i < 40; ++i) throttle.failed("alice", start);
  EXPECT_EQ(waits(start), seconds(10)) << "no longer than the longest";
  EXPECT_EQ(throttle.wait("bob", start), milliseconds(0));
  throttle.succeeded("alice");
  EXPECT_EQ(waits(start), milliseconds(0));
}

TEST(Throttle, ForgetsOldFailuresAndTooManyKeys) {
  Throttle throttle(0, seconds(10), 2);
  const Throttle::Time start{seconds(1000)};
  throttle.failed("a", start);
  throttle.failed("a", start + seconds(60));
  EXPECT_EQ(throttle.wait("a", start + seconds(60)), seconds(1)) << "the first was long ago";
  throttle.failed("b", start + seconds(61));
  throttle.failed("c", start + seconds(62));
  EXPECT_EQ(throttle.wait("a", start + seconds(60)), milliseconds(0)) << "forgotten for newer ones";
  EXPECT_EQ(throttle.wait("c", start + seconds(62)), seconds(1));
}

}  // namespace
}  // namespace alnair::manager
