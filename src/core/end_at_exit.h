// Ends what has threads before exit() frees what they use: the handlers of OpenSSL and libcurl run after ours.
//
// Thread safety: distinct objects may be used from distinct threads. What a forked child inherits is not ended there.
#pragma once

#include <functional>
#include <memory>

namespace alnair {

class EndAtExit {
 public:
  // At exit(), `end` runs if this object lives, and keeps alive what it needs. To be constructed after the libraries that its
  // threads use are initialised.
  explicit EndAtExit(std::function<void()> end);
  ~EndAtExit();
  EndAtExit(const EndAtExit&) = delete;
  EndAtExit& operator=(const EndAtExit&) = delete;

 private:
  struct Registry;
  static void end_all();
  static std::shared_ptr<Registry> registry();
  const std::shared_ptr<Registry> registry_;
};

}  // namespace alnair
