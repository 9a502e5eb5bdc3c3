// agentvm-guest: one static program. As process 1 it is the initramfs's init; otherwise it only tells what it is.

#include <cstdio>
#include <string_view>

#include <unistd.h>

#include "guest/agent/init.hpp"

int main(int argc, char** argv) {
  if (::getpid() == 1) agentvm::guest::agent::run_init();
  if (argc == 2 && std::string_view(argv[1]) == "--version") {
    std::puts("agentvm-guest " AGENTVM_VERSION);
    return 0;
  }
  std::fputs("agentvm-guest runs as /init in a guest's initramfs; on a host it only answers --version\n", stderr);
  return 64;
}
