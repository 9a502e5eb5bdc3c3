#pragma once
// What was read from a connection and is not used yet. Small while little comes, so that thousands of idle connections
// cost little; nothing is zeroed that is overwritten anyway (std::string would).

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace agentvm::proxy {

inline constexpr std::size_t small_read_bytes = 2 * 1024, large_read_bytes = 32 * 1024;

class Buffer {
 public:
  std::string_view view() const { return {data_.get() + begin_, end_ - begin_}; }
  std::size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }

  /// Room for one read behind what is there: large after a read that filled its room. Valid until the next call.
  std::span<char> prepare() {
    const std::size_t wanted = filled_ ? large_read_bytes : small_read_bytes;
    if (empty()) begin_ = end_ = 0;
    // Half the room will do: otherwise a sender of single bytes would have all of it moved for each of them.
    if (capacity_ - end_ < wanted / 2 || (empty() && capacity_ > 2 * wanted)) reserve(wanted);
    room_ = std::min(wanted, capacity_ - end_);
    return {data_.get() + end_, room_};
  }
  /// `count` bytes were read into the room.
  void commit(std::size_t count) {
    filled_ = count == room_;
    end_ += count;
  }
  void consume(std::size_t count) { begin_ += count; }
  void clear() { begin_ = end_ = 0; }

 private:
  void reserve(std::size_t room) {
    const std::size_t held = size(), capacity = held + room;
    auto next = std::make_unique_for_overwrite<char[]>(capacity);
    if (held > 0) std::memcpy(next.get(), data_.get() + begin_, held);
    data_ = std::move(next);
    capacity_ = capacity;
    begin_ = 0;
    end_ = held;
  }
  std::unique_ptr<char[]> data_;
  std::size_t capacity_ = 0, begin_ = 0, end_ = 0, room_ = 0;
  bool filled_ = false;
};

}  // namespace agentvm::proxy
