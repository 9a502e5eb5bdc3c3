#pragma once
// Pieces of an upload-pack that lies: advertisements, answers, packs made byte by byte.

#include <string>
#include <utility>
#include <vector>

#include "tests/support/fake_streams.hpp"

namespace agentvm::test {

using RefLine = std::pair<std::string, std::string>;  // id, name

std::string pkt_line(const std::string& payload);
std::string advertisement(const std::vector<RefLine>& refs,
                          const std::string& capabilities = "side-band-64k multi_ack_detailed thin-pack ofs-delta");
/// `data` in packets of one side band, without the final flush.
std::string band(int number, const std::string& data);

/// Advertises, answers every batch of haves with NAK, and after "done" sends `after_done`. With `and_then` it goes on
/// from there.
FakeStreams::Program serve(const std::string& greeting, const std::string& after_done,
                           const std::function<void(int io)>& and_then = {});
/// Sends `head`, then `chunk` for ever (until the stream ends).
FakeStreams::Program endless(const std::string& head, const std::string& chunk);

/// A pack from raw entries (type/size header and data included), with its trailer. `announced` < 0: the real count.
std::string make_pack(const std::vector<std::string>& entries, long long announced = -1);
enum class PackType { commit = 1, tree = 2, blob = 3, tag = 4, ref_delta = 7 };
/// An entry; `base` (20 raw bytes) for deltas. Data is stored, not compressed. `size` < 0: that of the data.
std::string pack_entry(PackType type, const std::string& data, const std::string& base = {}, long long size = -1);
/// 20 raw bytes.
std::string object_id(const std::string& type, const std::string& data);
std::string to_hex(const std::string& raw);
std::string from_hex(const std::string& hex);

}  // namespace agentvm::test
