#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/git/advertisement.hpp"
#include "sync/git/pkt_line.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::git {
namespace {

const std::string id(40, 'a');

TEST(PktLine, Kinds) {
  EXPECT_EQ(parse_pkt("").kind, Pkt::Kind::need_more);
  EXPECT_EQ(parse_pkt("000").kind, Pkt::Kind::need_more);
  EXPECT_EQ(parse_pkt("0000").kind, Pkt::Kind::flush);
  EXPECT_EQ(parse_pkt("0008abc").kind, Pkt::Kind::need_more);
  const auto data = parse_pkt("0008abcdrest");
  EXPECT_EQ(data.payload, "abcd");
  EXPECT_EQ(data.consumed, 8u);
  for (const char* bad : {"0001", "0002", "0003", "0004", "fff1", "ffff", "00g0", "-001", "0x10", " 008"})
    EXPECT_EQ(parse_pkt(bad).kind, Pkt::Kind::bad) << bad;
  const auto packet = pkt("hello");
  EXPECT_EQ(parse_pkt(packet).payload, "hello");
}

TEST(PktStream, ReassemblesWhateverTheChunks) {
  auto pair = make_socketpair();
  const std::string text = pkt("one") + pkt(std::string(60000, 'x')) + "0000";
  std::thread writer([&] {
    for (std::size_t i = 0; i < text.size(); i += 7)
      write_all(pair.second.get(), text.substr(i, 7), Deadline::after(std::chrono::seconds(30)));
    pair.second.reset();
  });
  PktStream stream(pair.first.get(), pair.first.get(), 1 << 20, Deadline::after(std::chrono::seconds(30)));
  EXPECT_EQ(stream.next().payload, "one");
  EXPECT_EQ(stream.next().payload.size(), 60000u);
  EXPECT_EQ(stream.next().kind, Pkt::Kind::flush);
  EXPECT_THROW(stream.next(), Error);
  EXPECT_EQ(stream.received_bytes(), text.size());
  writer.join();
}

TEST(Advertisement, CapabilitiesAndHead) {
  Advertisement out;
  add_advertised(out, id + " HEAD" + std::string(1, '\0') + "side-band-64k symref=HEAD:refs/heads/a/b agent=x\n", true,
                 10);
  add_advertised(out, id + " refs/heads/a/b\n", false, 10);
  add_advertised(out, id + " refs/tags/v^{}", false, 10);
  EXPECT_EQ(out.refs.size(), 2u);
  EXPECT_TRUE(out.has("side-band-64k"));
  EXPECT_EQ(out.head_branch(), "a/b");
}

TEST(Advertisement, RefusesTheRest) {
  const std::string zero(1, '\0');
  const auto refused = [](const std::string& line, bool first) {
    Advertisement out;
    EXPECT_THROW(add_advertised(out, line, first, 10), Error) << line;
  };
  refused("", true);
  refused(id, true);
  refused(id + " ", true);
  refused(fmt::format("{:g>40} x", ""), true);
  refused(fmt::format("{:A>40} x", ""), true);
  refused(id + " x" + zero + "caps", false);
  refused("ERR no", false);
  refused("version 1", true);
  refused("shallow " + id, false);
  refused(id + " x" + zero + "object-format=sha256", true);
  Advertisement out;
  add_advertised(out, id + " a", true, 1);
  EXPECT_THROW(add_advertised(out, id + " b", false, 1), Error);
  Advertisement evil;
  add_advertised(evil, id + " a" + zero + "symref=HEAD:refs/heads/../../x", true, 1);
  EXPECT_EQ(evil.head_branch(), "");
}

}  // namespace
}  // namespace agentvm::git
