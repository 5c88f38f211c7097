#include "manager/daemon/share_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "alnair/core/error.h"
#include "cache/redis/flush_policy.h"
#include "core/file.h"
#include "core/read_file.h"
#include "core/wall_clock.h"
#include "dataset/job/password_file.h"

namespace alnair::manager {
namespace {

bool write_all(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

void replace_file(const ShareOptions& options, const std::string& name, std::string_view bytes) {
  const std::string path = options.directory + "/" + name;
  const std::string temporary = fmt::format("{}/.{}.{}", options.directory, name, getpid());
  const auto fail = [&](const std::string& doing) {
    const int error = errno;
    unlink(temporary.c_str());
    throw ConfigError(fmt::format("{}: cannot be {}: {}", path, doing, std::strerror(error)));
  };
  unlink(temporary.c_str());  // of a daemon that was killed
  const FileDescriptor file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file || !write_all(file.get(), bytes)) fail("written");
  if ((options.owner || options.group) && fchown(file.get(), options.owner.value_or(static_cast<uid_t>(-1)),
                                                 options.group.value_or(static_cast<gid_t>(-1))) != 0)
    fail(fmt::format("given to user {} by user {}", options.owner.value_or(geteuid()), geteuid()));
  if (fchmod(file.get(), options.mode) != 0) fail("given its mode");
  if (rename(temporary.c_str(), path.c_str()) != 0) fail("renamed");
}

// As jobs without S3 credentials name chunks.
std::string identity_of(const JobOptions& job, const ManagerOptions& manager) {
  S3Options options;
  options.anonymous = true;
  options.endpoint_url = manager.s3_endpoint_url;
  options.region = manager.s3_region;
  try {
    return open_s3_source(job.bucket, options)->identity();
  } catch (const ConfigError&) {  // of the bucket or endpoint: the registration fails, and says so
    return "";
  }
}

}  // namespace

void write_share_files(const ShareOptions& options, const JobOptions& job, const ManagerOptions& manager,
                       const JobStatus& status) {
  nlohmann::json content = {{"job", job.name},
                            {"id", status.id.empty() ? job.earlier_id : status.id},
                            {"state", status.state},
                            {"detail", status.detail},
                            {"version", status.version},
                            {"objects", status.objects},
                            {"bytes", status.bytes},
                            {"manager", manager.url},
                            {"redis", status.id.empty() && status.redis.empty() ? job.earlier_redis : status.redis},
                            {"flush_policy", name_of(status.flush_policy)},
                            {"directory", status.directory},
                            {"directory_mode", status.directory_mode},
                            {"namespace", status.key_namespace},
                            {"domain", status.domain},
                            {"chunk_size", status.chunk_size},
                            {"single_pass", job.single_pass},
                            {"misses", job.name + ".sock"},
                            {"identity", identity_of(job, manager)},
                            {"datasource", {{"bucket", job.bucket}, {"keys", job.keys}}},
                            {"updated_ms", milliseconds_now()}};
  if (const std::string password = password_of(content["redis"].get<std::string>()); !password.empty()) {
    const std::string name = job.name + ".password";
    replace_file(options, name, password);
    content["redis_password_file"] = name;
  }
  for (const auto& [kind, bytes] : {std::pair{"manifest", status.manifest}, {"hashes", status.hashes}}) {
    if (bytes == nullptr) continue;
    const std::string name = job.name + "." + kind;  // before the file that names it
    replace_file(options, name, {reinterpret_cast<const char*>(bytes->data()), bytes->size()});
    content[kind] = name;
  }
  replace_file(options, job.name + ".json",
               content.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void remove_share_files(const ShareOptions& options, const std::string& job) {
  for (const char* ending : {".json", ".manifest", ".hashes", ".password"})
    unlink((options.directory + "/" + job + ending).c_str());
}

void take_up(const ShareOptions& options, JobOptions& job) {
  std::optional<std::string> text;
  try {
    text = read_small_file(options.directory + "/" + job.name + ".json");
  } catch (const ConfigError&) {  // somebody else's
  }
  const auto content = nlohmann::json::parse(text.value_or(""), nullptr, false);
  const auto field = [&](const char* name) -> std::string {
    const auto found = content.find(name);
    return found != content.end() && found->is_string() ? *found : "";
  };
  if (!content.is_object()) return;
  job.earlier_id = field("id");
  job.earlier_redis = field("redis");
}

std::string shared_state(const std::string& directory, const std::string& job) {
  const std::string path = directory + "/" + job + ".json";
  if (access(path.c_str(), R_OK) != 0 && errno == EACCES) {
    struct stat status {};
    const bool known = stat(path.c_str(), &status) == 0;
    throw ConfigError(
        fmt::format("{}: belongs to user {} and cannot be read by user {}; set the daemon's --owner or --mode", path,
                    known ? std::to_string(status.st_uid) : "?", geteuid()));
  }
  const auto text = read_small_file(path);
  if (!text) return "";
  const auto content = nlohmann::json::parse(*text, nullptr, false);
  return content.is_object() ? content.value("state", "") : "";
}

}  // namespace alnair::manager
