#include "manager/service/clients.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "alnair/core/error.h"
#include "core/wall_clock.h"
#include "manager/http/message.h"

namespace alnair::manager {
namespace {

// As hash_password() writes it, of a password that nobody knows: to be checked where a name is unknown.
constexpr char kNoOnesPassword[] =
    "scrypt$15$8$1$00000000000000000000000000000000$0000000000000000000000000000000000000000000000000000000000000000";

std::string sealing_context(const std::string& client) { return "s3:" + client; }

std::string to_text(const S3Auth& auth) {
  return nlohmann::json{auth.credentials.access_key_id, auth.credentials.secret_access_key,
                        auth.credentials.session_token, auth.region, auth.endpoint_url}
      .dump();
}

S3Auth from_text(const std::string& text) {
  const auto parts = nlohmann::json::parse(text).get<std::vector<std::string>>();
  return {{parts.at(0), parts.at(1), parts.at(2)}, parts.at(3), parts.at(4)};
}

void check_new_password(const std::string& password) {
  if (password.size() < 8) throw Problem(422, "invalid-field", "password: expected at least 8 characters");
}

Problem unknown_client(const std::string& name) {
  return {404, "unknown-client", fmt::format("there is no client \"{}\"", name)};
}

}  // namespace

Clients::Clients(Records& records, Sealer sealer, Options options, Clock clock)
    : records_(records),
      sealer_(std::move(sealer)),
      options_(options),
      clock_(std::move(clock)),
      no_ones_password_(kNoOnesPassword) {
  for (ClientRecord& record : records_.clients()) clients_.emplace(record.name, std::move(record));
  for (const SessionRecord& record : records_.sessions())  // clocks start afresh with the manager
    sessions_[record.token_hash] = {record.client, clock_() + options_.session_life};
}

// Holds one of the few permits to hash; whoever gets none soon comes again, so that workers stay free for others.
class Clients::Hashing {
 public:
  explicit Hashing(Clients& clients) : permits_(clients.hashing_) {
    if (!permits_.try_acquire_for(std::chrono::milliseconds(200)))
      throw Problem(503, "busy", "too many clients connect at once", 1);
  }
  ~Hashing() { permits_.release(); }
  Hashing(const Hashing&) = delete;
  Hashing& operator=(const Hashing&) = delete;

 private:
  std::counting_semaphore<>& permits_;
};

bool Clients::check(const std::string& password, const std::string& hash) {
  const Hashing permit(*this);
  return check_password(password, hash);
}

std::string Clients::connect(const std::string& name, const std::string& password, const std::optional<S3Auth>& auth,
                             const std::string& peer) {
  const std::string who = peer + " " + name;
  const auto wait = std::max(by_client_.wait(who, clock_()), by_peer_.wait(peer, clock_()));
  if (wait.count() > 0) {
    const auto seconds = static_cast<int>((wait.count() + 999) / 1000);
    throw Problem(429, "too-many-failures",
                  fmt::format("too many wrong passwords from {}; try again in {} s", peer, seconds), seconds);
  }
  std::optional<ClientRecord> record;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = clients_.find(name); found != clients_.end()) record = found->second;
  }
  if (!record && options_.create) {
    check_new_password(password);
    try {
      add(name, password, name);
    } catch (const Problem& problem) {
      if (problem.status() != 409) throw;  // another request has just made it: check the password
    }
    const std::lock_guard lock(mutex_);
    if (const auto found = clients_.find(name); found != clients_.end()) record = found->second;
  }
  if (!check(password, record ? record->password : no_ones_password_) || !record) {
    by_client_.failed(who, clock_());
    by_peer_.failed(peer, clock_());
    throw Problem(401, "wrong-password", "the name or the password is wrong");
  }
  by_client_.succeeded(who);
  if (!record->enabled) throw Problem(403, "client-disabled", fmt::format("the client \"{}\" is disabled", name));

  const std::string token = random_token(), hash = hash_token(token);
  const std::lock_guard writing(writing_);
  {
    const std::lock_guard lock(mutex_);
    const auto found = clients_.find(name);
    if (found == clients_.end()) throw Problem(401, "wrong-password", "the name or the password is wrong");
    record = found->second;
  }
  if (auth) {
    record->s3_auth = sealer_.seal(to_text(*auth), sealing_context(name));
    records_.put_client(*record);
  }
  records_.put_session({hash, name});
  std::string oldest;
  {
    const std::lock_guard lock(mutex_);
    clients_[name] = *record;
    std::size_t count = 0;
    for (auto& [other, session] : sessions_) {
      if (session.client != name) continue;
      ++count;
      if (oldest.empty() || session.expires < sessions_[oldest].expires) oldest = other;
    }
    if (count < options_.max_sessions) oldest.clear();
    sessions_.erase(oldest);
    sessions_[hash] = {name, clock_() + options_.session_life};
  }
  if (!oldest.empty()) records_.erase_session(oldest);
  return token;
}

void Clients::disconnect(const std::string& token) {
  const std::string hash = hash_token(token);
  const std::lock_guard writing(writing_);
  {
    const std::lock_guard lock(mutex_);
    sessions_.erase(hash);
  }
  records_.erase_session(hash);
}

std::optional<std::string> Clients::client_of(const std::string& token) {
  const std::string hash = hash_token(token);
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(hash);
  if (found == sessions_.end() || found->second.expires <= clock_()) return std::nullopt;
  found->second.expires = clock_() + options_.session_life;
  return found->second.client;
}

S3Auth Clients::s3_auth(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = clients_.find(name);
  if (found == clients_.end()) throw unknown_client(name);
  if (found->second.s3_auth.empty())
    throw Problem(422, "no-s3-credentials",
                  fmt::format("the client \"{}\" has given no S3 credentials; connect with \"s3\"", name));
  const auto text = sealer_.open(found->second.s3_auth, sealing_context(name));
  if (!text)
    throw Problem(
        422, "no-s3-credentials",
        fmt::format("the S3 credentials of \"{}\" were sealed under another key; connect with \"s3\" again", name));
  return from_text(*text);
}

void Clients::add(const std::string& name, const std::string& password, const std::string& domain) {
  check_new_password(password);
  std::string hash;
  {
    const Hashing permit(*this);
    hash = hash_password(password);
  }
  const std::lock_guard writing(writing_);
  {
    const std::lock_guard lock(mutex_);
    if (clients_.contains(name)) throw Problem(409, "client-exists", fmt::format("there is a client \"{}\"", name));
    if (clients_.size() >= options_.max_clients)
      throw Problem(429, "too-many-clients", fmt::format("there are {} clients, as many as may be", clients_.size()));
  }
  const ClientRecord record{name, hash, "", domain.empty() ? name : domain, true, milliseconds_now(), {}};
  records_.put_client(record);
  const std::lock_guard lock(mutex_);
  clients_[name] = record;
}

void Clients::change(const std::string& name, const std::optional<std::string>& password,
                     const std::optional<bool>& enabled, const std::optional<Quota>& quota) {
  std::string hash;
  if (password) {
    check_new_password(*password);
    const Hashing permit(*this);
    hash = hash_password(*password);
  }
  const std::lock_guard writing(writing_);
  ClientRecord record;
  {
    const std::lock_guard lock(mutex_);
    const auto found = clients_.find(name);
    if (found == clients_.end()) throw unknown_client(name);
    record = found->second;
  }
  if (password) record.password = hash;
  if (enabled) record.enabled = *enabled;
  if (quota) record.quota = *quota;
  records_.put_client(record);
  {
    const std::lock_guard lock(mutex_);
    clients_[name] = record;
  }
  if (password || !record.enabled) end_sessions(name);
}

void Clients::end_sessions(const std::string& name) {
  std::vector<std::string> ended;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [hash, session] : sessions_)
      if (session.client == name) ended.push_back(hash);
    for (const std::string& hash : ended) sessions_.erase(hash);
  }
  for (const std::string& hash : ended) records_.erase_session(hash);
}

void Clients::remove(const std::string& name) {
  const std::lock_guard writing(writing_);
  if (!knows(name)) throw unknown_client(name);
  records_.erase_client(name);
  const std::lock_guard lock(mutex_);
  clients_.erase(name);
  std::erase_if(sessions_, [&](const auto& entry) { return entry.second.client == name; });
}

bool Clients::knows(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return clients_.contains(name);
}

std::string Clients::domain_of(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = clients_.find(name);
  return found == clients_.end() ? name : found->second.domain;
}

Quota Clients::quota_of(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = clients_.find(name);
  return found == clients_.end() ? Quota() : found->second.quota;
}

std::vector<ClientInfo> Clients::list() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::uint64_t> sessions;
  for (const auto& [hash, session] : sessions_) ++sessions[session.client];
  std::vector<ClientInfo> infos;
  for (const auto& [name, record] : clients_)
    infos.push_back({name, record.domain, record.enabled, !record.s3_auth.empty(), record.created_ms, sessions[name],
                     record.quota});
  return infos;
}

void Clients::sweep() {
  std::vector<std::string> ended;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [hash, session] : sessions_)
      if (session.expires <= clock_()) ended.push_back(hash);
  }
  if (ended.empty()) return;
  const std::lock_guard writing(writing_);
  for (const std::string& hash : ended) {
    records_.erase_session(hash);
    const std::lock_guard lock(mutex_);
    sessions_.erase(hash);
  }
}

std::size_t Clients::reseal(const Sealer& fresh) {
  const std::lock_guard writing(writing_);
  std::vector<ClientRecord> sealed;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, record] : clients_) {
      if (record.s3_auth.empty()) continue;
      const auto text = sealer_.open(record.s3_auth, sealing_context(name));
      if (!text) throw Error(fmt::format("the S3 credentials of \"{}\" do not open under the present key", name));
      sealed.push_back(record);
      sealed.back().s3_auth = fresh.seal(*text, sealing_context(name));
    }
  }
  for (const ClientRecord& record : sealed) {
    records_.put_client(record);
    const std::lock_guard lock(mutex_);
    clients_[record.name] = record;
  }
  const std::lock_guard lock(mutex_);
  sealer_ = fresh;
  return sealed.size();
}

}  // namespace alnair::manager
