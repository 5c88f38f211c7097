// Slots that the processes of a node share, one for each request in flight and the connection that carries it: so a limit of
// requests holds for the node, however many processes there are. The one seam to where they are kept.
#pragma once

#include <memory>

namespace alnair {

class RequestSlots {
 public:
  // What one client holds; its end gives everything back. Not thread-safe.
  class Share {
   public:
    virtual ~Share() = default;

    // Takes one more of the first `limit` slots. False: they are all held.
    virtual bool take(int limit) = 0;
    virtual void give_back() = 0;  // one
    virtual int held() const = 0;

    // Shows the other shares of the node, in this process and in others, what this one lacks.
    enum class Want { kNothing, kMore, kFirst };  // kFirst: it holds none
    virtual void want(Want what) = 0;
    virtual Want others_want() const = 0;  // the most urgent
  };

  virtual ~RequestSlots() = default;
  virtual std::unique_ptr<Share> join() = 0;  // thread-safe
};

}  // namespace alnair
