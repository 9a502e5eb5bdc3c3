// agentvm-image: builds images in a process of its own, so that whoever kills it, or dies, ends the build and all its
// children.
//
//   agentvm-image build --images DIR --cache DIR [--libexec DIR] [--apt DIR] [--recipe FILE] [--layer NAME]...
//   [--refresh] agentvm-image assemble FOLDER       (by itself, inside the namespaces) agentvm-image remove-tree FOLDER
//   (by itself, inside the namespaces)

#include <csignal>
#include <string>
#include <vector>

#include <unistd.h>

#include "guest/image/build.hpp"
#include "guest/image/wire.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

constexpr auto longest_build = std::chrono::hours(2);

[[noreturn]] void usage(const std::string& reason) {
  throw Error(ErrorCode::usage, reason, "agentvm image build");
}

ImageRequest parse_request(const std::vector<std::string>& arguments) {
  ImageRequest request;
  request.libexec = executable_dir();
  for (std::size_t i = 2; i < arguments.size(); ++i) {
    const auto& option = arguments[i];
    if (option == "--refresh") {
      request.mode = BuildMode::refresh;
      continue;
    }
    if (option == "--layer" && i + 1 < arguments.size()) {
      request.layers.push_back(arguments[++i]);
      continue;
    }
    fs::path* target = option == "--images"    ? &request.images
                       : option == "--cache"   ? &request.cache
                       : option == "--libexec" ? &request.libexec
                       : option == "--apt"     ? &request.apt
                       : option == "--recipe"  ? &request.recipe
                                               : nullptr;
    if (!target) usage("agentvm-image: unknown option '" + option + "'");
    if (++i == arguments.size()) usage("agentvm-image: " + option + " needs a value");
    *target = fs::absolute(arguments[i]);
  }
  if (request.images.empty() || request.cache.empty()) usage("agentvm-image: build needs --images and --cache");
  return request;
}

void run_command(const std::vector<std::string>& arguments) {
  const auto command = arguments.size() > 1 ? arguments[1] : "";
  const auto progress = progress_lines(STDOUT_FILENO);
  const auto deadline = Deadline::after(longest_build);
  if (command == "build") {
    const auto image = build_image(parse_request(arguments), progress, deadline);
    print_result(STDOUT_FILENO, image.to_json());
  } else if (command == "assemble" && arguments.size() == 3) {
    assemble_image(arguments[2], progress, deadline);
    print_result(STDOUT_FILENO, Json::object());
  } else if (command == "remove-tree" && arguments.size() == 3) {
    remove_tree(arguments[2]);
  } else {
    usage(
        "usage: agentvm-image build --images DIR --cache DIR [--apt DIR] [--recipe FILE] [--layer NAME]... "
        "[--refresh]");
  }
}

}  // namespace
}  // namespace agentvm

int main(int argc, char** argv) {
  using namespace agentvm;
  ::signal(SIGPIPE, SIG_IGN);
  return run_program([&] {
    run_command({argv, argv + argc});
    return 0;
  });
}
