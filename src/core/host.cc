#include "core/host.h"

#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>

namespace alnair {

bool is_local_file_system(const std::string& directory) {
  constexpr std::array<std::uint32_t, 13> kLocal = {
      0xef53,      // ext2, ext3, ext4
      0x58465342,  // XFS
      0x9123683e,  // Btrfs
      0x01021994,  // tmpfs
      0x858458f6,  // ramfs
      0x794c7630,  // overlayfs
      0x2fc12fc1,  // ZFS
      0xf2f52010,  // F2FS
      0xca451a4e,  // bcachefs
      0x52654973,  // ReiserFS
      0x3153464a,  // JFS
      0x4d44,      // FAT
      0x2011bab0,  // exFAT
  };
  struct statfs status {};
  return statfs(directory.c_str(), &status) == 0 &&
         std::ranges::find(kLocal, static_cast<std::uint32_t>(status.f_type)) != kLocal.end();
}

std::string host_name() {
  std::array<char, 256> buffer{};
  gethostname(buffer.data(), buffer.size() - 1);
  std::string name = buffer.data();
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '.') c = '_';
  return name.empty() || name[0] == '.' ? "host" + name : name;
}

}  // namespace alnair
