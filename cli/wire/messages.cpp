#include "cli/wire/messages.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

namespace agentvm::wire {
namespace {

[[noreturn]] void refuse(const std::string& reason) {
  throw Error(ErrorCode::operation_failed, "the other side of the manager's socket sent " + reason);
}

/// `require`, but the key may not be longer than anything we send as a name.
std::string short_text(const Json& object, const std::string& key) {
  constexpr std::size_t limit_bytes = 128;
  auto text = require<std::string>(object, key);
  if (text.size() > limit_bytes) refuse("a '" + key + "' that is too long");
  return text;
}

std::uint64_t id_of(const Json& line) {
  const auto found = line.find("id");
  if (found == line.end() || !found->is_number_unsigned()) refuse("a message without an id");
  return found->get<std::uint64_t>();
}

}  // namespace

Json to_json(const Hello& hello) {
  return {{"hello",
           {{"magic", magic},
            {"version", hello.version},
            {"build", hello.build},
            {"features", hello.features},
            {"pid", hello.pid}}}};
}

Hello hello_from(const Json& line) {
  if (!line.is_object() || !line.contains("hello") || !line["hello"].is_object()) refuse("no hello");
  const auto& body = line["hello"];
  if (value_or<std::string>(body, "magic", "") != magic) refuse("a hello of another protocol");
  Hello hello;
  hello.version = short_text(body, "version");
  hello.build = value_or<std::string>(body, "build", "");
  hello.features = value_or<std::vector<std::string>>(body, "features", {});
  hello.pid = value_or<int>(body, "pid", 0);
  return hello;
}

Json to_json(const ClientMessage& message) {
  return {{"id", message.id},
          {"method", message.method},
          {"params", message.params.is_object() ? message.params : Json::object()}};
}

ClientMessage client_message_from(const Json& line) {
  if (!line.is_object()) refuse("something that is not an object");
  ClientMessage message;
  message.id = id_of(line);
  if (message.id == 0) refuse("the id 0");
  message.method = short_text(line, "method");
  message.params = line.contains("params") ? line["params"] : Json::object();
  if (!message.params.is_object()) refuse("params that are not an object");
  return message;
}

ServerMessage server_message_from(const Json& line) {
  if (!line.is_object()) refuse("something that is not an object");
  ServerMessage message;
  if (line.contains("error") && !line.contains("id")) {
    message.kind = ServerMessage::Kind::error;
    message.body = line["error"];
    return message;
  }
  message.id = id_of(line);
  if (line.contains("result")) {
    message.kind = ServerMessage::Kind::result;
    message.body = line["result"];
  } else if (line.contains("error")) {
    message.kind = ServerMessage::Kind::error;
    message.body = line["error"];
  } else {
    const auto event = short_text(line, "event");
    if (event == "progress") {
      message.kind = ServerMessage::Kind::progress;
      message.progress = {value_or<std::string>(line, "step", ""), value_or<std::string>(line, "text", ""),
                          value_or<int>(line, "percent", -1)};
    } else if (event == "warning") {
      message.kind = ServerMessage::Kind::warning;
      message.text = require<std::string>(line, "text");
    } else if (event == "streams") {
      message.kind = ServerMessage::Kind::streams;
      message.count = require<std::size_t>(line, "count");
    } else if (event == "ended") {
      message.kind = ServerMessage::Kind::ended;
      message.body = line.contains("status") ? line["status"] : Json();
    } else {
      refuse("the unknown event '" + event + "'");
    }
  }
  return message;
}

Json progress_line(std::uint64_t id, const ProgressEvent& event) {
  return {{"id", id}, {"event", "progress"}, {"step", event.step}, {"text", event.text}, {"percent", event.percent}};
}
Json warning_line(std::uint64_t id, const std::string& text) {
  return {{"id", id}, {"event", "warning"}, {"text", text}};
}
Json streams_line(std::uint64_t id, std::size_t count) {
  return {{"id", id}, {"event", "streams"}, {"count", count}};
}
Json ended_line(std::uint64_t id, const Json& status) {
  return {{"id", id}, {"event", "ended"}, {"status", status}};
}
Json result_line(std::uint64_t id, const Json& result) {
  return {{"id", id}, {"result", result}};
}

Json error_line(std::uint64_t id, const Error& error) {
  if (id == 0) return {{"error", to_json(error)}};
  return {{"id", id}, {"error", to_json(error)}};
}

Json to_json(const Error& error) {
  return {{"code", to_string(error.code())}, {"message", error.what()}, {"hint", error.hint()}};
}

Error error_from(const Json& object) {
  const auto text = [&](const char* key) {
    return object.is_object() && object.contains(key) && object[key].is_string() ? object[key].get<std::string>()
                                                                                 : std::string();
  };
  auto message = text("message");
  return Error(error_code_from(text("code")),
               message.empty() ? "the manager reported an error without a text" : message, text("hint"));
}

std::string build_identity(const std::string& executable) {
  struct stat status {};
  if (::stat(executable.c_str(), &status) < 0) return {};
  return fmt::format("{:x}-{:x}-{:x}.{:x}", status.st_ino, status.st_size, status.st_mtim.tv_sec,
                     status.st_mtim.tv_nsec);
}

}  // namespace agentvm::wire
