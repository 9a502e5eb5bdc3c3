#include "vmm/base/sizes.hpp"

#include <gmock/gmock.h>
#include <rapidcheck.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm {
namespace {

using test::error_of;

TEST(ByteSize, ParsesWhatPeopleWrite) {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {"0", 0},           {"4096", 4096},      {"512M", 512ULL << 20}, {"8G", 8ULL << 30},
      {"8g", 8ULL << 30}, {"8GB", 8ULL << 30}, {"8GiB", 8ULL << 30},   {"1.5G", 3ULL << 29},
      {"1T", 1ULL << 40}, {"2K", 2048}};
  for (const auto& [text, bytes] : cases) EXPECT_EQ(ByteSize::parse(text).bytes(), bytes) << text;
}

TEST(ByteSize, RefusesEverythingElse) {
  for (const auto* text : {"", "G", "-1G", "8X", "8GG", "8 G", " 8G", "8G ", "1e9", "nan", "inf", "0x10", "9999999P",
                           "8iB", "8B", "+8G", "8.G.", "1,5G"}) {
    const auto error = error_of([&] { ByteSize::parse(text); });
    ASSERT_TRUE(error) << text;
    EXPECT_EQ(error->code(), ErrorCode::usage);
  }
}

TEST(ByteSize, WholeUnitsComeBackAsWritten) {
  EXPECT_TRUE(rc::check([] {
    const auto count = *rc::gen::inRange<std::uint64_t>(1, 4096);
    const auto shift = *rc::gen::elementOf(std::vector<int>{0, 10, 20, 30, 40});
    const ByteSize size(count << shift);
    RC_ASSERT(ByteSize::parse(size.str()).bytes() == size.bytes() || size.bytes() % (1ULL << 10) != 0 ||
              size.str().find('.') != std::string::npos);
  }));
  EXPECT_EQ(ByteSize::gibibytes(8).str(), "8G");
  EXPECT_EQ(ByteSize::mebibytes(1536).str(), "1.5G");
  EXPECT_EQ(ByteSize(12345).str(), "12345");
}

}  // namespace
}  // namespace agentvm
