#include "core/sole_opener.h"

#include <fcntl.h>

#include <csignal>

namespace alnair {

// The kernel grants a lease for writing only on a file that nobody else has open; a mapping counts, as it holds the description that it was
// made from. It is given back at once: all that is wanted is the answer. Who opens the file in between makes the kernel send a signal,
// which by default would end this process: so it is one that is ignored by default.
bool is_sole_opener(int fd) {
  if (fcntl(fd, F_SETSIG, SIGURG) != 0 || fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return false;
  return fcntl(fd, F_SETLEASE, F_UNLCK) == 0;
}

}  // namespace alnair
