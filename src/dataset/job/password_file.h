// The password of a job's user in Redis where the job's processes find the one of now (redis::Options::password_file),
// as it is another one after each registration: in a file of memory, which ends with this process and is on no disk.
//
// Of one thread at a time, but for path().
#pragma once

#include <string>

#include "core/file.h"

namespace alnair {

class PasswordFile {
 public:
  void write(const std::string& password);  // in place of what was there; where that fails, path() is empty
  // For processes of the same user, forked or not, while this one lives. Empty: nothing was written, or there is no
  // such file.
  std::string path() const;

 private:
  FileDescriptor file_;
};

// Empty: the URL has none, or is malformed.
std::string password_of(const std::string& redis_url);

// `redis_url` with the file in place of its password. Throws ConfigError: the URL is malformed.
std::string with_password_file(const std::string& redis_url, const std::string& path);

}  // namespace alnair
