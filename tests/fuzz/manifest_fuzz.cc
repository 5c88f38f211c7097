// Manifests: a body, and a blob with a valid envelope around it, can be read wherever they are not a CacheError.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "alnair/core/error.h"
#include "alnair/dataset/manifest.h"
#include "dataset/manifest/format.h"
#include "dataset/manifest/reader.h"

using alnair::manifest::kEnvelopeSize;

namespace {

void read_all(std::span<const std::byte> body) {
  const alnair::manifest::Reader reader(body);
  for (std::uint64_t i = 0; i < reader.size() && i < 1000; ++i) {
    try {
      const auto object = reader.object(i);
      if (object.key != reader.key(i) || object.size != reader.object_size(i)) __builtin_trap();
      (void)reader.find(object.key);
    } catch (const alnair::CacheError&) {
    }
  }
  (void)reader.objects(0, reader.size() < 1000 ? reader.size() : 1000);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    read_all(bytes);
  } catch (const alnair::CacheError&) {
  }
  try {
    (void)alnair::Manifest::decode(bytes, "");
  } catch (const alnair::CacheError&) {
  }
  // The same bytes behind an envelope that vouches for them, as a body and as a zstd frame.
  for (const auto codec : {alnair::manifest::Codec::kRaw, alnair::manifest::Codec::kZstd}) {
    std::vector<std::byte> blob(kEnvelopeSize);
    blob.insert(blob.end(), bytes.begin(), bytes.end());
    alnair::manifest::write_envelope(blob.data(), {codec, size, alnair::content_hash(bytes)}, bytes);
    try {
      (void)alnair::Manifest::decode(blob, "");
    } catch (const alnair::CacheError&) {
    }
  }
  return 0;
}
