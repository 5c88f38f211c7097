// A manifest's bytes, whatever they are, give values or CacheError; a list of objects survives its encoding.
#include <algorithm>
#include <set>

#include "alnair/core/error.h"
#include "alnair/dataset/manifest.h"
#include "dataset/manifest/format.h"
#include "dataset/manifest/reader.h"
#include "fuzz.h"

using namespace alnair;

namespace {

constexpr std::uint64_t kMaxObjects = 2000;  // looked at; more only costs time

void read_body(std::span<const std::byte> body) {
  try {
    const manifest::Reader reader(body);
    const std::uint64_t count = std::min(reader.size(), kMaxObjects);
    for (std::uint64_t i = 0; i < count; ++i) {
      try {
        const ObjectInfo object = reader.object(i);
        fuzz::check(object.size == reader.object_size(i), "an object has one size");
        (void)reader.find(object.key);
      } catch (const CacheError&) {
      }
    }
    try {
      (void)reader.objects(0, count);
    } catch (const CacheError&) {
    }
    (void)reader.find("some key");
  } catch (const CacheError&) {
  }
}

void read_blob(std::span<const std::byte> blob) {
  try {
    (void)Manifest::decode(blob, "")->size();
  } catch (const CacheError&) {
  }
}

// The same bytes behind an envelope that vouches for them, as a body and as a zstd frame.
void read_vouched(std::span<const std::byte> payload) {
  for (const auto codec : {manifest::Codec::kRaw, manifest::Codec::kZstd}) {
    std::vector<std::byte> blob(manifest::kEnvelopeSize);
    blob.insert(blob.end(), payload.begin(), payload.end());
    manifest::write_envelope(blob.data(), {codec, payload.size(), content_hash(payload)}, payload);
    read_blob(blob);
  }
}

void round_trip(fuzz::Input input) {
  std::vector<ObjectInfo> objects;
  std::set<std::string> keys;
  while (!input.empty() && objects.size() < 200) {
    ObjectInfo object;
    const auto shape = input.number(1);
    object.key = input.text(1 + (shape & 31));
    object.size = input.number(shape >> 5 & 7);
    object.last_modified_ms = static_cast<std::int64_t>(input.number(shape >> 6 ? 8 : 5));
    object.etag = input.text(input.number(1) & 63);
    object.archived = (shape & 1) != 0;
    if (!object.key.empty() && keys.insert(object.key).second) objects.push_back(std::move(object));
  }
  const std::vector<std::byte> blob = Manifest::encode(objects);
  const auto decoded = Manifest::decode(blob, "");
  fuzz::check(decoded->size() == objects.size(), "no object is lost");
  for (const ObjectInfo& object : objects) {
    const auto index = decoded->find(object.key);
    fuzz::check(index.has_value(), "a key is found");
    const ObjectInfo found = decoded->object(*index);
    fuzz::check(found.key == object.key && found.same_version(object) && found.archived == object.archived &&
                    found.last_modified_ms == object.last_modified_ms,
                "an object is what it was");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  read_body(fuzz::bytes_of(data, size));
  read_blob(fuzz::bytes_of(data, size));
  read_vouched(fuzz::bytes_of(data, size));
  round_trip(fuzz::Input(data, size));
  return 0;
}
