#include "cli/manager/ops/requests.hpp"

#include <gtest/gtest.h>

namespace agentvm::manager {
namespace {

TEST(ClientSetting, ReadsFoldersAndTexts) {
  const auto setting = read_client_setting({{"cwd", "/home/dev/app"},
                                            {"path", "../other/./x"},
                                            {"flags", {{"memory", "1G"}, {"vcpus", 2}, {"nested", false}}},
                                            {"env", {{"AGENTVM_VCPUS", "3"}}}});
  EXPECT_EQ(setting.path, "/home/dev/other/x");
  EXPECT_EQ(setting.flags.at("memory"), "1G");
  EXPECT_EQ(setting.flags.at("vcpus"), "2");
  EXPECT_EQ(setting.flags.at("nested"), "false");
  EXPECT_EQ(setting.environment.at("AGENTVM_VCPUS"), "3");
}

TEST(ClientSetting, RefusesWhatIsNoSetting) {
  EXPECT_THROW(read_client_setting({{"path", "x"}}), Error);
  EXPECT_THROW(read_client_setting({{"cwd", "relative"}}), Error);
  EXPECT_THROW(read_client_setting({{"cwd", "/"}, {"flags", Json::array()}}), Error);
  EXPECT_THROW(read_client_setting({{"cwd", "/"}, {"flags", {{"memory", Json::array({1})}}}}), Error);
}

}  // namespace
}  // namespace agentvm::manager
