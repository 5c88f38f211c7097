// Whether nobody else has a file open.
#pragma once

namespace alnair {

// True: at this moment no process has the file open but by this descriptor, which was opened for reading and writing; nor does anyone map
// it, forked children with mappings that they inherited included. False: somebody does, or it cannot be told (a file of another user, a
// system without leases). Who opens it later is not kept from it.
bool is_sole_opener(int fd);

}  // namespace alnair
