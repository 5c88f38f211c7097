#include "s3/xml.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <pugixml.hpp>

#include "alnair/core/error.h"

namespace alnair {
namespace {

// A key may be a lone space, so text is kept as it stands; comments, declarations and the like are skipped.
constexpr unsigned kParseOptions = pugi::parse_cdata | pugi::parse_escapes | pugi::parse_ws_pcdata_single;

[[noreturn]] void fail(std::string_view document, std::string_view what) {
  throw SourceError(fmt::format("The S3 server's {} is malformed: {}.", document, what));
}

// Text from a server, made fit for a message: one line, of bounded length, printable.
std::string shown(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 200))
    result.push_back(static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c);
  if (text.size() > 200) result += "...";
  return result;
}

pugi::xml_node parse(pugi::xml_document& document, std::string& body, std::string_view what) {
  const pugi::xml_parse_result parsed =
      document.load_buffer_inplace(body.data(), body.size(), kParseOptions, pugi::encoding_utf8);
  if (!parsed)
    fail(what, fmt::format("{} at byte {} of {}", parsed.description(), parsed.offset, body.size()));
  return document.document_element();
}

// All the text of an element: a server may mix plain text and CDATA.
std::string text_of(pugi::xml_node element) {
  const pugi::xml_node first = element.first_child();
  if (!first.next_sibling()) return first.value();
  std::string text;
  for (const pugi::xml_node part : element.children()) text += part.value();
  return text;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// encoding-type=url is form encoding: '+' is a space.
std::string url_decoded(std::string text) {
  std::size_t out = 0;
  for (std::size_t in = 0; in < text.size(); ++in, ++out) {
    if (text[in] == '+') {
      text[out] = ' ';
    } else if (text[in] == '%') {
      const int high = in + 2 < text.size() ? hex_digit(text[in + 1]) : -1;
      const int low = in + 2 < text.size() ? hex_digit(text[in + 2]) : -1;
      if (high < 0 || low < 0)
        fail("listing", fmt::format("key '{}' is not URL-encoded as announced", shown(text)));
      text[out] = static_cast<char>(high << 4 | low);
      in += 2;
    } else {
      text[out] = text[in];
    }
  }
  text.resize(out);
  return text;
}

std::string unquoted(std::string etag) {
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') return etag.substr(1, etag.size() - 2);
  return etag;
}

// Listed objects in these classes answer reads only after a restore.
bool needs_restore(std::string_view storage_class) {
  return storage_class == "GLACIER" || storage_class == "DEEP_ARCHIVE";
}

ObjectInfo parse_object(pugi::xml_node contents, bool url_encoded) {
  ObjectInfo object;
  bool has_key = false, has_size = false, restored = false;
  for (const pugi::xml_node field : contents.children()) {
    const std::string_view name = field.name();
    if (name == "Key") {
      object.key = url_encoded ? url_decoded(text_of(field)) : text_of(field);
      has_key = true;
    } else if (name == "Size") {
      const std::string text = text_of(field);
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), object.size);
      if (error != std::errc() || end != text.data() + text.size())
        fail("listing", fmt::format("key '{}' has Size '{}'", shown(object.key), shown(text)));
      has_size = true;
    } else if (name == "ETag") {
      object.etag = unquoted(text_of(field));
    } else if (name == "LastModified") {
      const std::string text = text_of(field);
      if (text.empty()) continue;  // as if absent
      const auto time = parse_iso8601_ms(text);
      if (!time)
        fail("listing", fmt::format("key '{}' has LastModified '{}'", shown(object.key), shown(text)));
      object.last_modified_ms = *time;
    } else if (name == "StorageClass") {
      object.archived = needs_restore(field.child_value());
    } else if (name == "RestoreStatus") {
      restored = field.child("RestoreExpiryDate") &&
                 field.child_value("IsRestoreInProgress") == std::string_view("false");
    }
  }
  if (!has_key || object.key.empty()) fail("listing", "an object has no Key");
  if (!has_size) fail("listing", fmt::format("key '{}' has no Size", shown(object.key)));
  if (restored) object.archived = false;
  return object;
}

std::string field_text(pugi::xml_node parent, const char* name) { return text_of(parent.child(name)); }

std::optional<S3ErrorBody> error_of(pugi::xml_node root) {
  pugi::xml_node error = root;
  if (std::string_view(root.name()) == "ErrorResponse") error = root.child("Error");  // as STS sends it
  if (std::string_view(error.name()) != "Error") return std::nullopt;
  S3ErrorBody body;
  body.code = field_text(error, "Code");
  body.message = field_text(error, "Message");
  body.region = field_text(error, "Region");
  body.endpoint = field_text(error, "Endpoint");
  body.request_id = field_text(error, "RequestId");
  return body;
}

// Reads exactly `count` digits from the front of `text`.
std::optional<int> take_digits(std::string_view& text, std::size_t count) {
  if (text.size() < count) return std::nullopt;
  int value = 0;
  for (const char c : text.substr(0, count)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  text.remove_prefix(count);
  return value;
}

bool take(std::string_view& text, char expected) {
  if (text.empty() || text.front() != expected) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

ListPage parse_list_page(std::string body) {
  pugi::xml_document document;
  const pugi::xml_node root = parse(document, body, "listing");
  if (const auto error = error_of(root))
    throw SourceError(fmt::format("The S3 server answered a listing with the error {}: {}",
                                  shown(error->code), shown(error->message)));
  if (std::string_view(root.name()) != "ListBucketResult")
    fail("listing", fmt::format("expected the element ListBucketResult, found '{}'", shown(root.name())));

  const bool url_encoded = root.child_value("EncodingType") == std::string_view("url");
  ListPage page;
  page.objects.reserve(1000);
  for (const pugi::xml_node element : root.children()) {
    const std::string_view name = element.name();
    if (name == "Contents") {
      page.objects.push_back(parse_object(element, url_encoded));
    } else if (name == "CommonPrefixes") {
      std::string prefix = field_text(element, "Prefix");
      page.common_prefixes.push_back(url_encoded ? url_decoded(std::move(prefix)) : std::move(prefix));
    } else if (name == "IsTruncated") {
      const std::string_view value = element.child_value();
      if (value != "true" && value != "false")
        fail("listing", fmt::format("IsTruncated is '{}'", shown(value)));
      page.truncated = value == "true";
    } else if (name == "NextContinuationToken") {
      page.next_token = text_of(element);
    }
  }
  return page;
}

std::optional<S3ErrorBody> parse_error_body(std::string_view body) {
  pugi::xml_document document;
  if (!document.load_buffer(body.data(), body.size(), kParseOptions, pugi::encoding_utf8))
    return std::nullopt;
  return error_of(document.document_element());
}

StsCredentials parse_sts_credentials(std::string body) {
  pugi::xml_document document;
  const pugi::xml_node root = parse(document, body, "STS answer");
  const pugi::xml_node fields =
      root.first_element_by_path("./AssumeRoleResult/Credentials")
          ? root.first_element_by_path("./AssumeRoleResult/Credentials")
          : root.first_element_by_path("./AssumeRoleWithWebIdentityResult/Credentials");
  StsCredentials credentials{field_text(fields, "AccessKeyId"), field_text(fields, "SecretAccessKey"),
                             field_text(fields, "SessionToken"), 0};
  const auto expires = parse_iso8601_ms(field_text(fields, "Expiration"));
  if (credentials.access_key_id.empty() || credentials.secret_access_key.empty() || !expires)
    fail("STS answer", "expected AccessKeyId, SecretAccessKey and Expiration under Credentials");
  credentials.expires_ms = *expires;
  return credentials;
}

std::optional<std::int64_t> parse_iso8601_ms(std::string_view text) {
  const auto year = take_digits(text, 4);
  if (!year || !take(text, '-')) return std::nullopt;
  const auto month = take_digits(text, 2);
  if (!month || !take(text, '-')) return std::nullopt;
  const auto day = take_digits(text, 2);
  if (!day || !(take(text, 'T') || take(text, ' '))) return std::nullopt;
  const auto hour = take_digits(text, 2);
  if (!hour || !take(text, ':')) return std::nullopt;
  const auto minute = take_digits(text, 2);
  if (!minute || !take(text, ':')) return std::nullopt;
  const auto second = take_digits(text, 2);
  if (!second) return std::nullopt;

  std::int64_t fraction_ms = 0;
  if (take(text, '.')) {
    std::int64_t weight = 100;
    bool any = false;
    for (; !text.empty() && text.front() >= '0' && text.front() <= '9'; text.remove_prefix(1), weight /= 10) {
      fraction_ms += weight * (text.front() - '0');
      any = true;
    }
    if (!any) return std::nullopt;
  }

  int offset_minutes = 0;
  if (!take(text, 'Z')) {
    const int sign = take(text, '+') ? 1 : take(text, '-') ? -1 : 0;
    if (sign == 0) return std::nullopt;
    const auto offset_hour = take_digits(text, 2);
    if (!offset_hour) return std::nullopt;
    take(text, ':');
    const auto offset_minute = take_digits(text, 2);
    if (!offset_minute || *offset_hour > 23 || *offset_minute > 59) return std::nullopt;
    offset_minutes = sign * (*offset_hour * 60 + *offset_minute);
  }
  if (!text.empty()) return std::nullopt;

  namespace chr = std::chrono;
  const chr::year_month_day date(chr::year(*year), chr::month(static_cast<unsigned>(*month)),
                                 chr::day(static_cast<unsigned>(*day)));
  if (!date.ok() || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  const std::int64_t days = chr::sys_days(date).time_since_epoch().count();
  return ((days * 24 + *hour) * 60 + *minute - offset_minutes) * 60'000 + *second * 1000 + fraction_ms;
}

}  // namespace alnair
