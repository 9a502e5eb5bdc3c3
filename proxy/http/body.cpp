#include "proxy/http/body.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "proxy/http/fields.hpp"

namespace agentvm::http {
namespace {

/// RFC 9110, 6.5.1: what decides on framing, routing or who one is must not come after the content.
bool forbidden_in_trailers(std::string_view name) {
  constexpr std::string_view names[] = {"transfer-encoding",
                                        "content-length",
                                        "host",
                                        "connection",
                                        "upgrade",
                                        "te",
                                        "trailer",
                                        "expect",
                                        "authorization",
                                        "cookie",
                                        "set-cookie",
                                        "content-encoding",
                                        "content-type",
                                        "content-range",
                                        "keep-alive",
                                        "proxy-connection",
                                        "proxy-authorization",
                                        "proxy-authenticate",
                                        "forwarded",
                                        "cache-control",
                                        "location"};
  std::string plain = lower(name);
  std::replace(plain.begin(), plain.end(), '_', '-');
  return plain.starts_with("x-forwarded") || std::find(std::begin(names), std::end(names), plain) != std::end(names);
}

int hex_digit(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

}  // namespace

BodyReader::BodyReader(Framing framing) : left_(framing.bytes) {
  using Kind = Framing::Kind;
  until_close_ = framing.kind == Kind::until_close;
  if (until_close_) left_ = UINT64_MAX;
  state_ = framing.kind == Kind::chunked              ? State::size
           : framing.kind == Kind::none || left_ == 0 ? State::done
                                                      : State::raw;
  if (framing.kind == Kind::chunked) left_ = 0;
}

BodyReader::Piece BodyReader::take(std::string_view input) {
  std::size_t used = 0;
  while (used < input.size() && state_ != State::done && state_ != State::broken) {
    if (state_ == State::raw || state_ == State::data) {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size() - used));
      if (!until_close_) left_ -= size;
      if (left_ == 0) state_ = state_ == State::raw ? State::done : State::data_cr;
      return {used + size, input.substr(used, size)};
    }
    if (state_ == State::trailer)
      used += take_trailer(input.substr(used));
    else
      step(input[used++]);
  }
  return {used, {}};
}

bool BodyReader::end_of_stream() {
  if (until_close_ && state_ == State::raw) state_ = State::done;
  return state_ == State::done;
}

/// Collects up to the end of a line; an empty one ends the body.
std::size_t BodyReader::take_trailer(std::string_view input) {
  const auto end = input.find('\n');
  const auto size = end == input.npos ? input.size() : end + 1;
  trailer_bytes_ += size;
  if (trailer_bytes_ > trailer_limit_bytes) {
    state_ = State::broken;
    return size;
  }
  line_.append(input.substr(0, size));
  if (end == input.npos) return size;
  try {
    if (!line_.ends_with("\r\n")) refuse("a trailer holds a LF without CR");
    line_.resize(line_.size() - 2);
    if (line_.empty()) {
      state_ = State::done;
      return size;
    }
    const auto [name, value] = parse_field_line(line_);  // refuses a CR or NUL within
    if (forbidden_in_trailers(name) || trailers_.size() >= field_limit) refuse("a trailer is not allowed");
    trailers_.push_back({std::string(name), std::string(value)});
    line_.clear();
  } catch (const Refused&) {
    state_ = State::broken;
  }
  return size;
}

void BodyReader::step(char c) {
  constexpr unsigned digit_limit = 15;
  switch (state_) {
    case State::size:
      if (const int digit = hex_digit(c); digit >= 0 && digits_ < digit_limit) {
        left_ = left_ * 16 + static_cast<unsigned>(digit);
        ++digits_;
      } else if (digits_ > 0 && (c == ';' || c == '\r')) {
        state_ = c == ';' ? State::extension : State::size_lf;
      } else {
        state_ = State::broken;
      }
      break;
    case State::extension:
      if (c == '\r')
        state_ = State::size_lf;
      else if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f || ++extension_ > extension_limit_bytes)
        state_ = State::broken;
      break;
    case State::size_lf:
      digits_ = 0;
      state_ = c != '\n' ? State::broken : left_ == 0 ? State::trailer : State::data;
      break;
    case State::data_cr:
      state_ = c == '\r' ? State::data_lf : State::broken;
      break;
    case State::data_lf:
      state_ = c == '\n' ? State::size : State::broken;
      break;
    case State::raw:
    case State::data:
    case State::trailer:
    case State::done:
    case State::broken:
      break;
  }
}

std::string chunk_head(std::size_t size) {
  return fmt::format("{:x}\r\n", size);
}

std::string last_chunk(const Fields& trailers) {
  std::string text = "0\r\n";
  for (const auto& [name, value] : trailers) text += fmt::format("{}: {}\r\n", name, value);
  text += "\r\n";
  return text;
}

}  // namespace agentvm::http
