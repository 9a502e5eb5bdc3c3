#include <csignal>

#include <gmock/gmock.h>

#include "tests/contract/virt/support.hpp"

int main(int count, char** values) {
  ::signal(SIGPIPE, SIG_IGN);
  if (count > 2 && std::string(values[1]) == "--helper") return agentvm::test::run_helper({values + 2, values + count});
  ::testing::InitGoogleMock(&count, values);
  return RUN_ALL_TESTS();
}
