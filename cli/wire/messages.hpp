#pragma once
// What client and manager say to each other: JSON lines on the manager's socket. Descriptors ride on "streams" events.
//
//   both, first   {"hello": {"magic": "agentvm", "version", "build", "features": [...], "pid"}}
//   client        {"id", "method", "params"}            a request; ids are chosen by the client, unique per connection
//                 {"id", "method": "cancel"}            ends the request `id` early
//                 {"id", "method": "resize"|"signal", ...}  for the running request `id`
//   manager       {"id", "event": "progress", "step", "text", "percent"}
//                 {"id", "event": "warning", "text"}
//                 {"id", "event": "streams", "count"}   that many descriptors came with this line
//                 {"id", "event": "ended", "status"}    how the guest process ended (see README.md)
//                 {"id", "result"}  or  {"id", "error": {"code", "message", "hint"}}   exactly one, last
//   manager       {"error": {...}} without id: the line was not understood; the connection ends

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/json.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm::wire {

inline constexpr std::string_view magic = "agentvm";
/// Longest line in either direction, newline included.
inline constexpr std::size_t line_limit_bytes = 1u << 20;

struct Hello {
  std::string version;
  std::string build;  ///< identity of the manager's executable (`build_identity`); empty from a client
  std::vector<std::string> features;
  int pid = 0;
};

Json to_json(const Hello& hello);
/// Throws `operation_failed` when `line` is not a hello with our magic.
Hello hello_from(const Json& line);

/// What a client may send after its hello.
struct ClientMessage {
  std::uint64_t id = 0;
  std::string method;
  Json params;  ///< always an object
};
Json to_json(const ClientMessage& message);
/// Throws `operation_failed` naming the part that is wrong.
ClientMessage client_message_from(const Json& line);

/// What a manager may send after its hello.
struct ServerMessage {
  enum class Kind { progress, warning, streams, ended, result, error } kind = Kind::result;
  std::uint64_t id = 0;    ///< 0: the connection as a whole (an error)
  ProgressEvent progress;  ///< with `progress`
  std::string text;        ///< with `warning`
  std::size_t count = 0;   ///< with `streams`
  Json body;               ///< the status of `ended`, the value of `result`, the object of `error`
};
ServerMessage server_message_from(const Json& line);

Json progress_line(std::uint64_t id, const ProgressEvent& event);
Json warning_line(std::uint64_t id, const std::string& text);
Json streams_line(std::uint64_t id, std::size_t count);
Json ended_line(std::uint64_t id, const Json& status);
Json result_line(std::uint64_t id, const Json& result);
Json error_line(std::uint64_t id, const Error& error);

/// {"code", "message", "hint"}; message carries its context.
Json to_json(const Error& error);
Error error_from(const Json& object);

/// Tells two builds of one version apart: the file's inode, size and time of change. Empty when there is no such file.
std::string build_identity(const std::string& executable);

}  // namespace agentvm::wire
