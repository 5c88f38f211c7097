#include "cache/redis/chunk_index.h"

#include <atomic>
#include <cstring>
#include <map>
#include <vector>

namespace alnair {
namespace {

constexpr std::size_t kValueBytes = 32 + 8;

// The bucket says 13 bits of the first 8 bytes; these are others.
std::string field_of(const ChunkId& id) { return {reinterpret_cast<const char*>(id.bytes.data()) + 8, 6}; }

std::uint64_t checksum_of(const ChunkId& id, const ContentHash& hash) {
  return checksum64(std::as_bytes(std::span(hash.bytes)), checksum64(std::as_bytes(std::span(id.bytes))));
}

std::string value_of(const ChunkId& id, const ContentHash& hash) {
  const std::uint64_t checksum = checksum_of(id, hash);
  std::string value(reinterpret_cast<const char*>(hash.bytes.data()), hash.bytes.size());
  return value.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
}

std::optional<ContentHash> parse_value(const ChunkId& id, std::string_view value) {
  if (value.size() != kValueBytes) return std::nullopt;
  ContentHash hash;
  std::uint64_t checksum;
  std::memcpy(hash.bytes.data(), value.data(), hash.bytes.size());
  std::memcpy(&checksum, value.data() + hash.bytes.size(), sizeof checksum);
  return checksum == checksum_of(id, hash) ? std::optional(hash) : std::nullopt;
}

}  // namespace

void ChunkIndex::find(std::span<const ChunkId> ids, Found found) const {
  struct Asked {
    std::vector<ChunkId> ids;
    std::vector<std::vector<std::size_t>> of_command;  // the ids that each asks for
    std::vector<std::optional<ContentHash>> hashes;
    std::atomic<std::size_t> left;
    Found found;
  };
  if (ids.empty()) return found({});
  const auto asked = std::make_shared<Asked>();
  asked->ids.assign(ids.begin(), ids.end());
  asked->hashes.resize(ids.size());
  asked->found = std::move(found);
  std::map<std::string, std::vector<std::size_t>> buckets;
  for (std::size_t i = 0; i < ids.size(); ++i) buckets[keys_.index_bucket(ids[i])].push_back(i);
  std::vector<redis::Command> commands;
  for (auto& [key, members] : buckets) {
    redis::Command command{.args = {"HMGET", key}, .of_replica = true};
    for (const std::size_t i : members) command.args.emplace_back(field_of(ids[i]));
    commands.push_back(std::move(command));
    asked->of_command.push_back(std::move(members));
  }
  asked->left = commands.size();
  client_->run(std::move(commands), [asked](std::size_t c, redis::Result&& result) {
    const auto& members = asked->of_command[c];
    if (result.ok() && result.reply.elements.size() == members.size())
      for (std::size_t m = 0; m < members.size(); ++m)
        asked->hashes[members[m]] = parse_value(asked->ids[members[m]], result.reply.elements[m].text());
    if (--asked->left == 0) asked->found(std::move(asked->hashes));
  });
}

void ChunkIndex::record(std::span<const HashRecord> records, std::function<void()> done) const {
  std::map<std::string, redis::Command> buckets;
  for (const HashRecord& record : records) {
    const std::string key = keys_.index_bucket(record.id);
    redis::Command& command = buckets[key];
    if (command.args.empty()) command.args = {"HSET", key};
    command.args.emplace_back(field_of(record.id));
    command.args.emplace_back(value_of(record.id, record.hash));
  }
  if (buckets.empty()) return done();
  std::vector<redis::Command> commands;
  for (auto& [key, command] : buckets) commands.push_back(std::move(command));
  const auto left = std::make_shared<std::atomic<std::size_t>>(commands.size());
  client_->run(std::move(commands), [left, done = std::move(done)](std::size_t, redis::Result&&) {
    if (--*left == 0) done();
  });
}

}  // namespace alnair
