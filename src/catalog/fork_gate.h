// Keeps SQLite and fork() apart.
//
// SQLite keeps state of the whole process (mutexes, and which files it believes to have locked) that a forked
// child inherits and that is wrong there. So whoever uses SQLite passes this gate, and a fork first waits
// until nobody is inside and closes every connection: the child begins with a SQLite that has nothing open,
// and the parent opens its connections again when it next needs them. Should somebody stay inside for too
// long (a file system hangs), the fork goes ahead, and that child (with its own children) does without
// SQLite; later forks do not wait for the same one again.
//
// Inside the gate, do not log or call back: the thread that forks may hold what the callee waits for.
//
// Thread safety: all functions may be called from any thread.
#pragma once

namespace alnair {

// Something that closes its connection before a fork. It registers and unregisters inside the gate or out of
// it.
class ForkClosable {
 public:
  virtual ~ForkClosable() = default;
  virtual void close_for_fork() = 0;  // nobody is inside the gate
};

class ForkGate {
 public:
  // Waits while a fork is under way. usable() is false in a child that must not touch SQLite.
  ForkGate();
  ~ForkGate();
  ForkGate(const ForkGate&) = delete;
  ForkGate& operator=(const ForkGate&) = delete;

  bool usable() const;

  static void add(ForkClosable* member);
  static void remove(ForkClosable* member);
};

}  // namespace alnair
