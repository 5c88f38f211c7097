// Short forms for tests of object sources.
#pragma once

#include <future>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "alnair/source/object_source.h"

namespace alnair::testing {

inline std::string random_bytes(std::size_t size, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

inline std::future<std::string> start_read(ObjectSource& source, ReadRequest request) {
  auto promise = std::make_shared<std::promise<std::string>>();
  source.read(std::move(request), [promise](ReadResult result) {
    if (result.error) return promise->set_exception(std::move(result.error));
    promise->set_value(std::string(result.bytes.text()));
  });
  return promise->get_future();
}

// Both throw what the read ends with.
inline std::string read_range(ObjectSource& source, const ObjectInfo& object, std::uint64_t offset,
                              std::uint64_t length) {
  return start_read(source, {object, offset, length}).get();
}
inline std::string read_all(ObjectSource& source, const ObjectInfo& object) {
  return read_range(source, object, 0, object.size);
}

inline std::vector<ObjectInfo> list_all(ObjectSource& source, const std::vector<std::string>& prefixes) {
  std::vector<ObjectInfo> objects;
  source.list(
      prefixes,
      [&](std::vector<ObjectInfo>&& page) { objects.insert(objects.end(), page.begin(), page.end()); }, {});
  return objects;
}

inline std::vector<std::string> keys_of(const std::vector<ObjectInfo>& objects) {
  std::vector<std::string> keys;
  for (const ObjectInfo& object : objects) keys.push_back(object.key);
  return keys;
}

}  // namespace alnair::testing
