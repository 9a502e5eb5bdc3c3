#include "sync/git/pack_walk.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <zlib.h>

#include "vmm/base/error.hpp"

namespace agentvm::git {
namespace {

constexpr std::size_t header_bytes = 12, checksum_bytes = 20, window_bytes = 64u << 10;
constexpr unsigned ofs_delta = 6, ref_delta = 7;
constexpr std::uint16_t depth_limit = 4095;  ///< git's own: what it packs is never deeper
constexpr unsigned shift_limit = 57;         ///< a size that shifts further does not fit 64 bits

[[noreturn]] void refuse(const std::string& problem) {
  throw Error(ErrorCode::operation_failed, "refused: the pack from the sandbox " + problem);
}

}  // namespace

struct PackWalk::Inflater {
  z_stream stream{};
  Inflater() {
    if (::inflateInit(&stream) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { ::inflateEnd(&stream); }
};

PackWalk::PackWalk(const sync::SyncLimits& limits)
    : limits_(limits), inflater_(std::make_unique<Inflater>()), window_(window_bytes) {}
PackWalk::~PackWalk() = default;

void PackWalk::feed(std::string_view data) {
  while (!data.empty()) {
    if (part_ == Part::data) {
      const auto used = inflate_some(data);
      position_ += used;
      data.remove_prefix(used);
      continue;
    }
    const char c = data.front();
    const auto byte = static_cast<unsigned char>(c);
    data.remove_prefix(1);
    if (part_ == Part::header)
      take_header(c);
    else if (part_ == Part::entry)
      take_entry(byte);
    else if (part_ == Part::base)
      take_base(byte);
    else if (++trailer_bytes_ > checksum_bytes)
      refuse("goes on behind its end");
    ++position_;
  }
}

void PackWalk::finish() const {
  if (part_ != Part::trailer || trailer_bytes_ != checksum_bytes) refuse("ends too early");
}

void PackWalk::take_header(char c) {
  head_ += c;
  if (head_.size() < header_bytes) return;
  if (!head_.starts_with(std::string_view("PACK\0\0\0\2", 8)))
    throw Error(ErrorCode::operation_failed, "the guest's git sent something that is no pack (version 2)");
  for (std::size_t i = 8; i < header_bytes; ++i) announced_ = announced_ << 8 | static_cast<unsigned char>(head_[i]);
  if (announced_ > limits_.objects)
    throw Error(
        ErrorCode::operation_failed,
        fmt::format("the guest announced {} objects, more than {} (sync.limits.objects)", announced_, limits_.objects));
  part_ = announced_ == 0 ? Part::trailer : Part::entry;
}

void PackWalk::take_entry(unsigned char c) {
  if (shift_ == 0) {
    starts_.push_back(position_);
    depths_.push_back(0);
    type_ = c >> 4 & 7;
    if (type_ == 0 || type_ == 5) refuse(fmt::format("has an object of the type {}, which does not exist", type_));
    size_ = c & 15;
    shift_ = 4;
  } else {
    if (shift_ > shift_limit) refuse("has an object whose size does not fit 64 bits");
    size_ |= static_cast<std::uint64_t>(c & 0x7F) << shift_;
    shift_ += 7;
  }
  if (c & 0x80) return;
  shift_ = 0;
  if (size_ > limits_.object_bytes) refuse(fmt::format("has an object larger than {} bytes", limits_.object_bytes));
  base_bytes_ = 0;
  distance_ = 0;
  if (type_ == ofs_delta || type_ == ref_delta)
    part_ = Part::base;
  else
    begin_data();
}

void PackWalk::take_base(unsigned char c) {
  ++base_bytes_;
  if (type_ == ref_delta) {
    if (base_bytes_ == checksum_bytes) begin_data();
    return;
  }
  if (distance_ > std::numeric_limits<std::uint64_t>::max() >> 8) refuse("has a delta whose base is nowhere");
  distance_ = base_bytes_ == 1 ? c & 0x7Fu : ((distance_ + 1) << 7 | (c & 0x7Fu));
  if (c & 0x80) return;
  const auto own = starts_.back();
  const auto base = std::lower_bound(starts_.begin(), starts_.end() - 1, own - std::min(distance_, own));
  if (distance_ == 0 || distance_ > own || base == starts_.end() - 1 || *base != own - distance_)
    refuse("has a delta whose base is no earlier object");
  const auto depth = depths_[static_cast<std::size_t>(base - starts_.begin())];
  if (depth >= depth_limit) refuse(fmt::format("has a chain of more than {} deltas", depth_limit));
  depths_.back() = static_cast<std::uint16_t>(depth + 1);
  begin_data();
}

void PackWalk::begin_data() {
  part_ = Part::data;
  produced_ = 0;
  delta_number_ = delta_shift_ = 0;
  delta_sizes_[0] = delta_sizes_[1] = 0;
  ::inflateReset(&inflater_->stream);
  if (type_ != ofs_delta && type_ != ref_delta) add_expanded(size_);
}

std::size_t PackWalk::inflate_some(std::string_view data) {
  auto& stream = inflater_->stream;
  const auto given = static_cast<uInt>(std::min<std::size_t>(data.size(), 1u << 20));
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = given;
  for (;;) {
    stream.next_out = reinterpret_cast<Bytef*>(window_.data());
    stream.avail_out = static_cast<uInt>(window_.size());
    const int result = ::inflate(&stream, Z_NO_FLUSH);
    const auto made = window_.size() - stream.avail_out;
    // In the order of the bytes, so that the answer does not hang on the pieces they come in.
    if (type_ == ofs_delta || type_ == ref_delta)
      take_delta_sizes({window_.data(), std::min<std::size_t>(made, size_ - produced_)});
    produced_ += made;
    if (produced_ > size_) refuse("has an object that is longer than it says");
    if (result == Z_STREAM_END) {
      end_data();
      return given - stream.avail_in;
    }
    if (result != Z_OK && result != Z_BUF_ERROR) refuse("has an object that cannot be unpacked");
    if (stream.avail_out != 0) return given - stream.avail_in;  // all of the input is used
  }
}

void PackWalk::take_delta_sizes(std::string_view data) {
  for (const char c : data) {
    if (delta_number_ == 2) return;
    if (delta_shift_ > shift_limit) refuse("has a delta whose sizes do not fit 64 bits");
    delta_sizes_[delta_number_] |= static_cast<std::uint64_t>(c & 0x7F) << delta_shift_;
    delta_shift_ += 7;
    if (c & 0x80) continue;
    delta_shift_ = 0;
    if (++delta_number_ == 2) {
      if (delta_sizes_[1] > limits_.object_bytes)
        refuse(fmt::format("has an object larger than {} bytes", limits_.object_bytes));
      add_expanded(delta_sizes_[1]);
    }
  }
}

void PackWalk::end_data() {
  if (produced_ != size_) refuse("has an object that is shorter than it says");
  if ((type_ == ofs_delta || type_ == ref_delta) && delta_number_ != 2) refuse("has a delta without sizes");
  part_ = starts_.size() == announced_ ? Part::trailer : Part::entry;
}

void PackWalk::add_expanded(std::uint64_t bytes) {
  if ((expanded_ += bytes) > limits_.expanded_bytes)
    throw Error(ErrorCode::operation_failed,
                fmt::format("refused: the sandbox's objects unpack to more than {} bytes", limits_.expanded_bytes));
}

}  // namespace agentvm::git
