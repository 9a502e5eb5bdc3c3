#pragma once
// Bodies, a piece at a time: where one ends, and chunked coding both ways. Pure; copies nothing but trailers.

#include "proxy/http/head.hpp"

namespace agentvm::http {

/// Chunk extensions of a whole body, and its trailers, end here: they cost work and carry nothing.
inline constexpr std::size_t extension_limit_bytes = 16 * 1024;
inline constexpr std::size_t trailer_limit_bytes = 16 * 1024;

/// Finds the payload in the bytes of a connection.
class BodyReader {
 public:
  explicit BodyReader(Framing framing = {});

  struct Piece {
    std::size_t used = 0;   ///< bytes of the input that are done with
    std::string_view data;  ///< payload among them; may be empty
  };
  /// The next piece of `input`, which goes on where the last `used` ended. Uses nothing when the body is over, broken,
  /// or when more input is needed; bytes after the end are not touched.
  Piece take(std::string_view input);
  /// The connection has ended: true when the body may end here.
  bool end_of_stream();

  bool done() const { return state_ == State::done; }
  bool broken() const { return state_ == State::broken; }
  /// What followed the last chunk; complete once `done`.
  const Fields& trailers() const { return trailers_; }

 private:
  enum class State { raw, size, extension, size_lf, data, data_cr, data_lf, trailer, done, broken };
  std::size_t take_trailer(std::string_view input);
  void step(char c);
  State state_;
  bool until_close_ = false;
  std::uint64_t left_ = 0;
  unsigned digits_ = 0;
  std::size_t extension_ = 0, trailer_bytes_ = 0;
  std::string line_;
  Fields trailers_;
};

/// What stands before `size` bytes of payload (never 0); "\r\n" follows them.
std::string chunk_head(std::size_t size);
/// The end of a chunked body.
std::string last_chunk(const Fields& trailers);

}  // namespace agentvm::http
