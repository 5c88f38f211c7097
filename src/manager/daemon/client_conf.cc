#include "manager/daemon/client_conf.h"

#include <fmt/format.h>
#include <strings.h>

#include <charconv>

#include "alnair/core/error.h"
#include "core/ini.h"

namespace alnair::manager {
namespace {

class Section {
 public:
  Section(const IniFile& file, const char* name) : file_(file), name_(name) {
    for (const IniSection& section : file.sections())  // in any case, as scripts read them
      if (strcasecmp(section.name.c_str(), name) == 0) section_ = &section;
  }

  bool exists() const { return section_ != nullptr; }
  std::string optional(const char* field) const {
    const IniEntry* entry = section_ == nullptr ? nullptr : section_->find(field);
    return entry == nullptr ? "" : entry->value;
  }
  std::string required(const char* field) const {
    std::string value = optional(field);
    if (value.empty())
      throw ConfigError(fmt::format("{}: section [{}] has no value for the field {}", file_.path(), name_, field));
    return value;
  }

 private:
  const IniFile& file_;
  const char* name_;
  const IniSection* section_ = nullptr;
};

}  // namespace

ManagerOptions read_client_conf(const std::string& path) {
  const auto file = IniFile::load(path);
  if (!file) throw ConfigError(fmt::format("{}: no such file; it names the manager and its password", path));
  const Section manager(*file, "alnair_manager"), s3(*file, "aws_s3");
  if (!manager.exists()) throw ConfigError(fmt::format("{}: has no section [alnair_manager]", path));
  const std::string address = manager.required("server_address"), port = manager.required("server_port");
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number == 0 || number > 65535)
    throw ConfigError(fmt::format("{}: server_port: expected a port from 1 to 65535", path));
  ManagerOptions options;
  options.ca_bundle = manager.optional("tls_ca");
  options.tls_cert = manager.optional("tls_cert");
  options.tls_key = manager.optional("tls_key");
  const bool v6 = address.find(':') != std::string::npos && address.front() != '[';
  options.url = fmt::format("{}://{}:{}", options.ca_bundle.empty() ? "http" : "https",
                            v6 ? "[" + address + "]" : address, number);
  options.username = manager.required("username");
  options.password = manager.required("password");
  if (s3.exists()) {
    options.s3_credentials = S3Credentials{s3.required("aws_access_key_id"), s3.required("aws_secret_access_key"),
                                           s3.optional("aws_session_token")};
    options.s3_region = s3.optional("region_name");
    options.s3_endpoint_url = s3.optional("endpoint_url");
  }
  return options;
}

}  // namespace alnair::manager
