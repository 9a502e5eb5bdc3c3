// libFuzzer entry for what arrives on the manager's socket and at its clients: bytes become lines, lines messages. A
// line is an error or a message that says the same when it is written again, however the bytes were cut.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/wire/lines.hpp"
#include "cli/wire/messages.hpp"

namespace {

using namespace agentvm;

constexpr std::size_t limit_bytes = 4096;

void demand(bool holds) {
  if (!holds) std::abort();
}

/// The lines of `text` handed in `step` bytes at a time; "error" ends them where the buffer refuses.
std::vector<std::string> lines_of(std::string_view text, std::size_t step) {
  wire::LineBuffer buffer(limit_bytes);
  std::vector<std::string> lines;
  try {
    while (!text.empty()) {
      buffer.append(text.substr(0, step));
      text.remove_prefix(std::min(step, text.size()));
      while (const auto line = buffer.next()) {
        demand(line->size() < limit_bytes && line->find_first_of(std::string_view("\n\0", 2)) == line->npos);
        lines.push_back(*line);
      }
      demand(buffer.pending_bytes() <= limit_bytes + step);
    }
  } catch (const Error& error) {
    demand(error.code() == ErrorCode::operation_failed);
    lines.push_back("error");
  }
  return lines;
}

template <class Read>
void refused_or(Read read) {
  try {
    read();
  } catch (const Error& error) {
    demand(error.code() == ErrorCode::operation_failed && !error.message().empty());
  }
}

void check_line(const std::string& line) {
  Json json;
  try {
    json = parse_json(line, "a line");
  } catch (const Error& error) {
    return demand(error.code() == ErrorCode::operation_failed);
  }
  refused_or([&] {
    const auto message = wire::client_message_from(json);
    demand(message.id > 0 && message.params.is_object());
    const auto again = wire::client_message_from(wire::to_json(message));
    demand(again.id == message.id && again.method == message.method && again.params == message.params);
  });
  refused_or([&] {
    const auto hello = wire::hello_from(json);
    const auto again = wire::hello_from(wire::to_json(hello));
    demand(again.version == hello.version && again.features == hello.features && again.pid == hello.pid);
  });
  refused_or([&] { wire::server_message_from(json); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto lines = lines_of(text, 7);
  demand(lines == lines_of(text, 1));
  for (const auto& line : lines) check_line(line);
  return 0;
}
