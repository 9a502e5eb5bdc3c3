#pragma once
// Reads a pack as it arrives, before any library gets to see it: framing, types, sizes and the order of deltas. Pure
// but for zlib; takes any bytes in any pieces, holds none of them.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sync/limits.hpp"

namespace agentvm::git {

/// Throws `operation_failed` for what no sound pack has: another version, reserved types, data that is shorter or
/// longer than its header says (libgit2 1.5 takes that), an offset delta whose base is no earlier object of this pack,
/// chains deeper than git makes them, bytes behind the checksum, and what exceeds the caps: objects, the size of one
/// object (of a delta: of what it makes) and of all of them unpacked. Not its job: names, contents, the checksum.
class PackWalk {
 public:
  explicit PackWalk(const sync::SyncLimits& limits);
  ~PackWalk();
  PackWalk(const PackWalk&) = delete;
  PackWalk& operator=(const PackWalk&) = delete;

  /// The next piece.
  void feed(std::string_view data);
  /// The pack ended. Throws when it must not end here.
  void finish() const;

  std::uint64_t objects() const { return starts_.size(); }

 private:
  enum class Part { header, entry, base, data, trailer };
  struct Inflater;

  void take_header(char c);
  void take_entry(unsigned char c);
  void take_base(unsigned char c);
  std::size_t inflate_some(std::string_view data);
  void take_delta_sizes(std::string_view data);
  void begin_data();
  void end_data();
  void add_expanded(std::uint64_t bytes);

  sync::SyncLimits limits_;
  std::unique_ptr<Inflater> inflater_;
  std::vector<char> window_;
  Part part_ = Part::header;
  std::string head_;            ///< the pack's first 12 bytes
  std::uint64_t position_ = 0;  ///< of the next byte
  std::uint64_t announced_ = 0;
  std::vector<std::uint64_t> starts_;  ///< where each entry begins, ascending
  std::vector<std::uint16_t> depths_;  ///< deltas between each entry and a whole object, as far as this pack tells
  unsigned type_ = 0, shift_ = 0;
  std::uint64_t size_ = 0, produced_ = 0, expanded_ = 0, distance_ = 0;
  unsigned base_bytes_ = 0, trailer_bytes_ = 0;
  // The two numbers at the start of a delta.
  unsigned delta_number_ = 0, delta_shift_ = 0;
  std::uint64_t delta_sizes_[2] = {0, 0};
};

}  // namespace agentvm::git
