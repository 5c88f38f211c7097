#include "redis/slot_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace alnair::redis {
namespace {

// CRC-16/XMODEM, as the cluster's specification demands.
constexpr std::array<std::uint16_t, 256> kCrcTable = [] {
  std::array<std::uint16_t, 256> table{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    unsigned crc = byte << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc << 1) ^ ((crc & 0x8000) != 0 ? 0x1021u : 0u);
    table[byte] = static_cast<std::uint16_t>(crc);
  }
  return table;
}();

std::uint16_t crc16(std::string_view text) {
  unsigned crc = 0;
  for (const char c : text) crc = (crc << 8) ^ kCrcTable[((crc >> 8) ^ static_cast<unsigned char>(c)) & 0xff];
  return static_cast<std::uint16_t>(crc);
}

bool is_text(const Reply& reply) { return reply.type == Reply::Type::kBulk || reply.type == Reply::Type::kStatus; }

// The value of `name` in an array of names and values; null: it is not there.
const Reply* field(const Reply& map, std::string_view name) {
  for (std::size_t i = 0; i + 1 < map.elements.size(); i += 2)
    if (is_text(map.elements[i]) && map.elements[i].text() == name) return &map.elements[i + 1];
  return nullptr;
}

std::string_view text_of(const Reply* reply) { return reply != nullptr && is_text(*reply) ? reply->text() : ""; }

std::optional<Address> address_of(std::string_view host, const Reply* port, const Address& asked) {
  if (port == nullptr || port->type != Reply::Type::kInteger || port->integer < 1 || port->integer > 65535)
    return std::nullopt;
  if (host.empty() || host == "?") host = asked.host;
  if (host.empty()) return std::nullopt;
  return Address{.host = std::string(host), .port = static_cast<std::uint16_t>(port->integer)};
}

}  // namespace

std::uint16_t slot_of(std::string_view key) {
  const std::size_t open = key.find('{');
  if (open != std::string_view::npos) {
    const std::size_t close = key.find('}', open + 1);
    if (close != std::string_view::npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
  }
  return crc16(key) % kSlots;
}

std::optional<SlotMap> SlotMap::from_shards(const Reply& reply, const Address& asked, bool tls) {
  if (reply.type != Reply::Type::kArray) return std::nullopt;
  SlotMap map;
  for (const Reply& shard : reply.elements) {
    const Reply* slots = field(shard, "slots");
    const Reply* nodes = field(shard, "nodes");
    if (slots == nullptr || nodes == nullptr || slots->elements.size() % 2 != 0) return std::nullopt;
    if (slots->elements.empty()) continue;
    // After a failover a shard may list the old master too: the one that is online serves.
    std::int16_t master = -1;
    for (const bool online : {true, false}) {
      for (const Reply& node : nodes->elements) {
        if (master >= 0 || text_of(field(node, "role")) != "master" ||
            (text_of(field(node, "health")) == "online") != online)
          continue;
        // "endpoint" is what the cluster's administrator wants clients to use: IP address or host name.
        const auto address =
            address_of(text_of(field(node, "endpoint")), field(node, tls ? "tls-port" : "port"), asked);
        if (!address) return std::nullopt;  // some servers know the TLS ports only in CLUSTER SLOTS
        master = map.index_of(*address, text_of(field(node, "id")));
      }
    }
    for (const Reply& node : nodes->elements) {
      if (text_of(field(node, "role")) == "master" || text_of(field(node, "health")) != "online") continue;
      const auto address = address_of(text_of(field(node, "endpoint")), field(node, tls ? "tls-port" : "port"), asked);
      if (address) map.add_replica(master, *address);
    }
    for (std::size_t i = 0; master >= 0 && i < slots->elements.size(); i += 2)
      if (slots->elements[i].type != Reply::Type::kInteger || slots->elements[i + 1].type != Reply::Type::kInteger ||
          !map.assign(slots->elements[i].integer, slots->elements[i + 1].integer, master))
        return std::nullopt;
  }
  return map;
}

std::optional<SlotMap> SlotMap::from_slots(const Reply& reply, const Address& asked) {
  if (reply.type != Reply::Type::kArray) return std::nullopt;
  SlotMap map;
  for (const Reply& range : reply.elements) {
    if (range.elements.size() < 3 || range.elements[0].type != Reply::Type::kInteger ||
        range.elements[1].type != Reply::Type::kInteger || range.elements[2].elements.size() < 2)
      return std::nullopt;
    const std::vector<Reply>& node = range.elements[2].elements;
    const auto address = address_of(text_of(&node[0]), &node[1], asked);
    if (!address) return std::nullopt;
    const std::int16_t master = map.index_of(*address, node.size() > 2 ? text_of(&node[2]) : "");
    if (master < 0 || !map.assign(range.elements[0].integer, range.elements[1].integer, master)) return std::nullopt;
    for (std::size_t i = 3; i < range.elements.size(); ++i)
      if (const auto& replica = range.elements[i].elements; replica.size() >= 2)
        if (const auto at = address_of(text_of(&replica[0]), &replica[1], asked)) map.add_replica(master, *at);
  }
  return map;
}

SlotMap SlotMap::of_one(const Address& address) {
  SlotMap map;
  map.assign(0, kSlots - 1, map.index_of(address, ""));
  return map;
}

void SlotMap::move(std::uint16_t slot, const Address& address) {
  if (slot < kSlots) owners_[slot] = index_of(address, "");
}

bool SlotMap::serves(const Address& address) const {
  return std::any_of(masters_.begin(), masters_.end(), [&](const Master& m) { return m.address == address; });
}

bool SlotMap::has_replica(const Address& address) const {
  return std::any_of(masters_.begin(), masters_.end(), [&](const Master& master) {
    return std::find(master.replicas.begin(), master.replicas.end(), address) != master.replicas.end();
  });
}

void SlotMap::add_replica(std::int16_t master, const Address& address) {
  if (master < 0) return;
  auto& replicas = masters_[static_cast<std::size_t>(master)].replicas;
  if (std::find(replicas.begin(), replicas.end(), address) == replicas.end()) replicas.push_back(address);
}

std::string SlotMap::uncovered() const {
  std::string text;
  for (int first = 0; first < kSlots; ++first) {
    if (owners_[static_cast<std::size_t>(first)] >= 0) continue;
    int last = first;
    while (last + 1 < kSlots && owners_[static_cast<std::size_t>(last) + 1] < 0) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", first);
    if (last > first) text += fmt::format("-{}", last);
    first = last;
  }
  return text;
}

bool SlotMap::same_cluster(const SlotMap& other) const {
  bool named = false;
  for (const Master& mine : masters_)
    for (const Master& theirs : other.masters_) {
      if (mine.id.empty() || theirs.id.empty()) continue;
      if (mine.id == theirs.id) return true;
      named = true;
    }
  return !named;
}

// -1: there are too many.
std::int16_t SlotMap::index_of(const Address& address, std::string_view id) {
  for (std::size_t i = 0; i < masters_.size(); ++i)
    if (masters_[i].address == address) return static_cast<std::int16_t>(i);
  if (masters_.size() >= static_cast<std::size_t>(std::numeric_limits<std::int16_t>::max())) return -1;
  masters_.push_back({address, std::string(id)});
  return static_cast<std::int16_t>(masters_.size() - 1);
}

bool SlotMap::assign(std::int64_t first, std::int64_t last, std::int16_t master) {
  if (master < 0 || first < 0 || last < first || last >= kSlots) return false;
  std::fill(owners_.begin() + first, owners_.begin() + last + 1, master);
  return true;
}

}  // namespace alnair::redis
