// Immutable, shared bytes.
//
// A View is what every read returns: a pointer, a length, and a share in whatever keeps the bytes alive (a heap
// block, a mapped segment). Copying a View copies no bytes. The bytes stay valid and unchanged as long as any
// View over them lives, even after the cache has evicted the chunk.
//
// A view is private when its bytes are this process's own copy-on-write mapping, writable: a stray write there changes
// nothing that the cache or another process reads. Python lends such bytes to PyTorch as they are, others as a copy.
//
// Thread safety: as a std::shared_ptr: distinct View objects may be used from distinct threads.
#pragma once

#if __cplusplus < 202002L
#error "alnair needs C++20: compile with -std=c++20 (the CMake target alnair::alnair asks for it by itself)"
#endif

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

namespace alnair {

class View {
 public:
  View() = default;
  View(std::shared_ptr<const void> owner, std::span<const std::byte> bytes, bool is_private = false)
      : owner_(std::move(owner)), bytes_(bytes), is_private_(is_private) {}

  const std::byte* data() const { return bytes_.data(); }
  std::uint64_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  std::span<const std::byte> bytes() const { return bytes_; }
  bool is_private() const { return is_private_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

  // The part [offset, offset + length), sharing ownership. The range is clamped to the view.
  View part(std::uint64_t offset, std::uint64_t length) const {
    offset = offset < size() ? offset : size();
    length = length < size() - offset ? length : size() - offset;
    return {owner_, bytes_.subspan(offset, length), is_private_};
  }

 private:
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
  bool is_private_ = false;
};

// A block of bytes, written by one owner and then frozen into a View. `Delete` gives the block back.
template <typename Delete>
class OwnedBlock {
 public:
  using Block = std::unique_ptr<std::byte[], Delete>;

  OwnedBlock() : block_(nullptr, Delete()) {}
  OwnedBlock(Block block, std::uint64_t size) : block_(std::move(block)), size_(size) {}

  std::byte* data() { return block_.get(); }
  std::uint64_t size() const { return size_; }
  std::span<std::byte> bytes() { return {block_.get(), size_}; }

  // Gives up the block: nobody writes to it any more. `size` may be smaller than what was allocated.
  View freeze(std::uint64_t size) && {
    std::shared_ptr<const std::byte[]> owner(std::move(block_));
    const std::byte* data = owner.get();
    return {std::move(owner), {data, size}};
  }
  View freeze() && { return std::move(*this).freeze(size_); }

 private:
  Block block_;
  std::uint64_t size_ = 0;
};

// A heap block of `size` uninitialised bytes.
class Buffer : public OwnedBlock<std::default_delete<std::byte[]>> {
 public:
  Buffer() = default;
  explicit Buffer(std::uint64_t size) : OwnedBlock(Block(new std::byte[size]), size) {}
};

}  // namespace alnair
