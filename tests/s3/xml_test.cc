#include "s3/xml.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "alnair/core/error.h"

namespace alnair {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string listing(std::string_view inner) {
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{}</ListBucketResult>",
      inner);
}

std::string object(std::string_view fields) {
  return listing(fmt::format("<Contents>{}</Contents>", fields));
}

std::string failure_of(std::string body) {
  try {
    parse_list_page(std::move(body));
  } catch (const SourceError& error) {
    return error.what();
  }
  return "(no SourceError)";
}

TEST(ListPage, HasObjectsPrefixesAndAToken) {
  const ListPage page = parse_list_page(
      listing("<Name>b</Name><Prefix/><IsTruncated>true</IsTruncated><NextContinuationToken>1/a+b%20=</"
              "NextContinuationToken>\n"
              "<Contents><Key>a/1.png</Key><LastModified>2009-10-12T17:50:30.123Z</LastModified>"
              "<ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</"
              "Size><StorageClass>STANDARD</StorageClass>"
              "</Contents>\n"
              "<Contents><Key>b&amp;c</Key><Size>0</Size><ETag>unquoted</ETag></Contents>"
              "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>e/</Prefix></"
              "CommonPrefixes>"));
  EXPECT_TRUE(page.truncated);
  EXPECT_EQ(page.next_token, "1/a+b%20=");
  EXPECT_THAT(page.common_prefixes, ElementsAre("d/", "e/"));
  ASSERT_EQ(page.objects.size(), 2u);
  EXPECT_EQ(page.objects[0].key, "a/1.png");
  EXPECT_EQ(page.objects[0].size, 434234u);
  EXPECT_EQ(page.objects[0].etag, "fba9dede5f27731c9771645a39863328");
  EXPECT_EQ(page.objects[0].last_modified_ms, 1255369830123);
  EXPECT_FALSE(page.objects[0].archived);
  EXPECT_EQ(page.objects[1].key, "b&c");
  EXPECT_EQ(page.objects[1].etag, "unquoted");
  EXPECT_EQ(page.objects[1].last_modified_ms, 0);
}

TEST(ListPage, MayBeEmpty) {
  const ListPage page = parse_list_page(listing("<IsTruncated>false</IsTruncated>"));
  EXPECT_THAT(page.objects, IsEmpty());
  EXPECT_FALSE(page.truncated);
}

TEST(ListPage, DecodesKeysOnlyWhereTheServerEncodedThem) {
  constexpr std::string_view kObject = "<Contents><Key>a+b%2B%C3%BC%0A</Key><Size>1</Size></Contents>";
  EXPECT_EQ(
      parse_list_page(listing(fmt::format("<EncodingType>url</EncodingType>{}", kObject))).objects[0].key,
      "a b+\xc3\xbc\n");
  EXPECT_EQ(parse_list_page(listing(kObject)).objects[0].key, "a+b%2B%C3%BC%0A");
  // The announcement may come last.
  EXPECT_EQ(
      parse_list_page(listing(fmt::format("{}<EncodingType>url</EncodingType>", kObject))).objects[0].key,
      "a b+\xc3\xbc\n");
}

TEST(ListPage, KeepsKeysOfSpacesEntitiesAndCdata) {
  EXPECT_EQ(parse_list_page(object("<Key> </Key><Size>1</Size>")).objects[0].key, " ");
  EXPECT_EQ(parse_list_page(object("<Key> a </Key><Size>1</Size>")).objects[0].key, " a ");
  EXPECT_EQ(parse_list_page(object("<Key>&lt;&#x9;&#252;&gt;</Key><Size>1</Size>")).objects[0].key,
            "<\t\xc3\xbc>");
  EXPECT_EQ(parse_list_page(object("<Key>x<![CDATA[<y>]]>z</Key><Size>1</Size>")).objects[0].key, "x<y>z");
}

TEST(ListPage, ATimeMayBeMissing) {
  EXPECT_EQ(parse_list_page(object("<Key>k</Key><Size>1</Size>")).objects[0].last_modified_ms, 0);
  EXPECT_EQ(parse_list_page(object("<Key>k</Key><LastModified/><Size>1</Size>")).objects[0].last_modified_ms, 0);
}

TEST(ListPage, KnowsWhatIsArchived) {
  const auto archived = [](std::string_view fields) {
    return parse_list_page(object(fmt::format("<Key>k</Key><Size>1</Size>{}", fields))).objects[0].archived;
  };
  EXPECT_TRUE(archived("<StorageClass>GLACIER</StorageClass>"));
  EXPECT_TRUE(archived("<StorageClass>DEEP_ARCHIVE</StorageClass>"));
  EXPECT_FALSE(archived("<StorageClass>GLACIER_IR</StorageClass>"));
  EXPECT_TRUE(
      archived("<StorageClass>GLACIER</StorageClass><RestoreStatus><IsRestoreInProgress>true"
               "</IsRestoreInProgress></RestoreStatus>"));
  EXPECT_FALSE(archived(
      "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>"
      "2030-01-01T00:00:00Z</RestoreExpiryDate></RestoreStatus><StorageClass>GLACIER</StorageClass>"));
}

TEST(ListPage, SaysWhatIsMalformed) {
  EXPECT_THAT(failure_of(""), HasSubstr("malformed"));
  EXPECT_THAT(failure_of("not XML"), HasSubstr("malformed"));
  EXPECT_THAT(failure_of(listing("<Contents><Key>a</Key>")), HasSubstr("at byte"));
  EXPECT_THAT(failure_of("<html/>"), HasSubstr("expected the element ListBucketResult, found 'html'"));
  EXPECT_THAT(failure_of(object("<Size>1</Size>")), HasSubstr("an object has no Key"));
  EXPECT_THAT(failure_of(object("<Key/><Size>1</Size>")), HasSubstr("an object has no Key"));
  EXPECT_THAT(failure_of(object("<Key>k</Key>")), HasSubstr("key 'k' has no Size"));
  for (const char* size : {"-1", "", "1.5", "18446744073709551616", " 1"})
    EXPECT_THAT(failure_of(object(fmt::format("<Key>k</Key><Size>{}</Size>", size))),
                HasSubstr("key 'k' has Size"))
        << size;
  EXPECT_THAT(failure_of(object("<Key>k</Key><Size>1</Size><LastModified>yesterday</LastModified>")),
              HasSubstr("LastModified 'yesterday'"));
  EXPECT_THAT(failure_of(listing("<IsTruncated>maybe</IsTruncated>")), HasSubstr("IsTruncated is 'maybe'"));
  for (const char* key : {"a%", "a%4", "a%4g"})
    EXPECT_THAT(
        failure_of(listing(fmt::format("<EncodingType>url</EncodingType><Contents><Key>{}</Key><Size>1</Size>"
                                       "</Contents>",
                                       key))),
        HasSubstr("not URL-encoded"))
        << key;
}

TEST(ListPage, QuotesAnErrorThatCameWithStatus200) {
  EXPECT_THAT(failure_of("<Error><Code>InternalError</Code><Message>We\nfell over</Message></Error>"),
              HasSubstr("InternalError: We fell over"));
}

TEST(ErrorBody, HasItsFields) {
  const auto error = parse_error_body(
      "<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>the region "
      "'us-east-1' is wrong"
      "</Message><Region>eu-west-1</Region><RequestId>123</RequestId></Error>");
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, "AuthorizationHeaderMalformed");
  EXPECT_EQ(error->region, "eu-west-1");
  EXPECT_EQ(error->endpoint, "");
  EXPECT_EQ(error->request_id, "123");
}

TEST(ErrorBody, IsFoundInsideWhatStsSends) {
  const auto error =
      parse_error_body("<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>");
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, "ExpiredToken");
}

TEST(ErrorBody, IsNothingWhenTheBodyIsNoError) {
  EXPECT_FALSE(parse_error_body(""));
  EXPECT_FALSE(parse_error_body("<html><body>502</body></html>"));
  EXPECT_FALSE(parse_error_body("<Error>"));
  EXPECT_FALSE(parse_error_body(std::string_view("\0\xff<", 3)));
}

TEST(StsCredentials, AreParsed) {
  for (const char* call : {"AssumeRole", "AssumeRoleWithWebIdentity"}) {
    const StsCredentials credentials = parse_sts_credentials(fmt::format(
        "<{0}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{0}Result><Credentials>"
        "<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        "<Expiration>2030-01-01T00:00:00Z</Expiration></Credentials></{0}Result></{0}Response>",
        call));
    EXPECT_EQ(credentials.access_key_id, "ASIA");
    EXPECT_EQ(credentials.session_token, "t");
    EXPECT_EQ(credentials.expires_ms, 1893456000000);
  }
  EXPECT_THROW(parse_sts_credentials("<AssumeRoleResponse/>"), SourceError);
}

TEST(Iso8601, IsReadToTheMillisecond) {
  EXPECT_EQ(parse_iso8601_ms("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(parse_iso8601_ms("1970-01-01T00:00:00.5Z"), 500);
  EXPECT_EQ(parse_iso8601_ms("1970-01-01T00:00:00.123456789Z"), 123);
  EXPECT_EQ(parse_iso8601_ms("1970-01-01T02:00:01+02:00"), 1000);
  EXPECT_EQ(parse_iso8601_ms("1969-12-31T23:59:59-0000"), -1000);
  EXPECT_EQ(parse_iso8601_ms("2024-02-29T12:34:56Z"), 1709210096000);
  for (const char* text : {"", "2024", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-01-01T24:00:00Z",
                           "2024-01-01T00:00:00", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00Zx",
                           "2024-01-01T00:00:00+1", "20240101T000000Z"})
    EXPECT_EQ(parse_iso8601_ms(text), std::nullopt) << text;
}

}  // namespace
}  // namespace alnair
