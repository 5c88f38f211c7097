#include "cache/directory/direct_writes.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

namespace alnair {

std::unique_ptr<DirectWrites> DirectWrites::open(const std::shared_ptr<FileSystem>& files, const std::string& path) {
  if (!files->is_local(path)) return nullptr;
  const int fd = files->open(path, O_WRONLY | O_DIRECT);
  return fd < 0 ? nullptr : std::unique_ptr<DirectWrites>(new DirectWrites(files, fd));
}

int DirectWrites::append(std::span<const iovec> pieces) {
  std::byte* const staged = staging_->bytes.data();
  std::size_t filled = end_ % kBlock;
  std::uint64_t end = end_, start = end_ - filled;
  std::memcpy(staged, last_.data(), filled);
  const auto write = [&](std::size_t bytes) {
    const iovec piece{staged, bytes};
    return file_.files().write(file_.fd(), {&piece, 1}, start);
  };
  for (const iovec& piece : pieces) {
    for (std::size_t done = 0; done < piece.iov_len;) {
      const std::size_t some = std::min(piece.iov_len - done, kStaged - filled);
      std::memcpy(staged + filled, static_cast<const std::byte*>(piece.iov_base) + done, some);
      done += some;
      end += some;
      filled += some;
      if (filled < kStaged) continue;
      if (const int error = write(kStaged); error < 0) return error;
      start += kStaged;
      filled = 0;
    }
  }
  const std::size_t whole = filled / kBlock * kBlock, rest = filled - whole;
  if (filled > 0) {
    const std::size_t padded = rest > 0 ? whole + kBlock : whole;
    std::memset(staged + filled, 0, padded - filled);
    if (const int error = write(padded); error < 0) return error;
  }
  std::memcpy(last_.data(), staged + whole, rest);
  end_ = end;
  return 0;
}

}  // namespace alnair
