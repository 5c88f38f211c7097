// What the tests of the directory tier share.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cache/directory/directory_tier.h"

namespace alnair::testing::disk {

inline PutRequest make_chunk(std::uint64_t seed, std::uint64_t size, DatasetTag dataset = 1) {
  Buffer buffer(size);
  std::mt19937_64 random(seed);
  for (std::byte& byte : buffer.bytes()) byte = static_cast<std::byte>(random());
  View view = std::move(buffer).freeze();
  const ContentHash hash = content_hash(view.bytes());
  return {hash, std::move(view), dataset};
}

inline std::vector<PutRequest> make_chunks(std::size_t count, std::uint64_t size, std::uint64_t seed = 0,
                                           DatasetTag dataset = 1) {
  std::vector<PutRequest> chunks;
  for (std::size_t i = 0; i < count; ++i) chunks.push_back(make_chunk(seed * 1'000'000 + i, size, dataset));
  return chunks;
}

// get(), waiting for every answer.
inline std::vector<std::optional<View>> get_all(Tier& tier, std::span<const ContentHash> hashes) {
  struct Answers {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::optional<View>> views;
    std::size_t count = 0;
  };
  auto answers = std::make_shared<Answers>();
  answers->views.resize(hashes.size());
  tier.get(hashes, [answers](std::size_t i, std::optional<View> view) {
    std::lock_guard lock(answers->mutex);
    answers->views[i] = std::move(view);
    ++answers->count;
    answers->changed.notify_all();
  });
  std::unique_lock lock(answers->mutex);
  answers->changed.wait(lock, [&] { return answers->count == hashes.size(); });
  return answers->views;
}

inline std::vector<ContentHash> hashes_of(std::span<const PutRequest> chunks) {
  std::vector<ContentHash> hashes;
  for (const PutRequest& chunk : chunks) hashes.push_back(chunk.hash);
  return hashes;
}

// How many of the chunks the tier has. Wrong bytes would be a failure of everything: they end the test.
inline std::size_t count_hits(Tier& tier, std::span<const PutRequest> chunks) {
  std::size_t hits = 0;
  const auto views = get_all(tier, hashes_of(chunks));
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    if (!views[i]) continue;
    if (views[i]->text() != chunks[i].bytes.text()) std::abort();
    ++hits;
  }
  return hits;
}

inline std::size_t count_stored(Tier& tier, std::span<const PutRequest> chunks) {
  std::vector<PutOutcome> outcomes(chunks.size());
  tier.put(chunks, outcomes);
  return static_cast<std::size_t>(std::count(outcomes.begin(), outcomes.end(), PutOutcome::kStored));
}

inline std::vector<std::filesystem::path> files_in(const std::string& directory,
                                                   const std::string& suffix = "") {
  std::vector<std::filesystem::path> files;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory, ignored)) {
    if (entry.is_regular_file() && entry.path().string().ends_with(suffix)) files.push_back(entry.path());
  }
  return files;
}

inline std::uint64_t bytes_in(const std::string& directory) {
  std::uint64_t bytes = 0;
  for (const auto& file : files_in(directory)) bytes += std::filesystem::file_size(file);
  return bytes;
}

}  // namespace alnair::testing::disk
