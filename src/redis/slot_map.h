// Which node of a cluster serves which hash slot. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "redis/reply.h"
#include "redis/url.h"

namespace alnair::redis {

constexpr std::uint16_t kSlots = 16384;

// The hash slot of a key: CRC16 of it, or of what stands between its first '{' and the next '}' if that is not empty.
std::uint16_t slot_of(std::string_view key);

class SlotMap {
 public:
  struct Master {
    Address address;
    std::string id;  // 40 hex digits, the node's for ever; empty where the server does not say
    std::vector<Address> replicas = {};
  };

  // From the reply to CLUSTER SHARDS or CLUSTER SLOTS; nullopt: it is neither. `asked` stands in for a host that the
  // answering node does not know (its own). `tls`: take the nodes' TLS ports.
  static std::optional<SlotMap> from_shards(const Reply& reply, const Address& asked, bool tls);
  static std::optional<SlotMap> from_slots(const Reply& reply, const Address& asked);

  // Every slot with one server.
  static SlotMap of_one(const Address& address);

  // Null: no node serves the slot.
  const Address* owner(std::uint16_t slot) const {
    return owners_[slot] < 0 ? nullptr : &masters_[static_cast<std::size_t>(owners_[slot])].address;
  }
  // What a MOVED said.
  void move(std::uint16_t slot, const Address& address);

  const std::vector<Master>& masters() const { return masters_; }
  bool serves(const Address& address) const;
  // Of the slot's owner; empty: it has none.
  std::span<const Address> replicas(std::uint16_t slot) const {
    if (owners_[slot] < 0) return {};
    return masters_[static_cast<std::size_t>(owners_[slot])].replicas;
  }
  bool has_replica(const Address& address) const;
  // For messages: "0-5460, 16383"; empty when all slots are covered.
  std::string uncovered() const;
  // False when both name their masters and share none: they are of two clusters.
  bool same_cluster(const SlotMap& other) const;

 private:
  SlotMap() { owners_.fill(-1); }
  std::int16_t index_of(const Address& address, std::string_view id);
  void add_replica(std::int16_t master, const Address& address);
  bool assign(std::int64_t first, std::int64_t last, std::int16_t master);

  std::vector<Master> masters_;  // with slots
  std::array<std::int16_t, kSlots> owners_;
};

}  // namespace alnair::redis
