#pragma once
// Owners for the handles of C libraries.

namespace agentvm {

/// The deleter of a std::unique_ptr whose handle ends with one call: `std::unique_ptr<git_odb,
/// FreeWith<git_odb_free>>`.
template <auto Free>
struct FreeWith {
  template <class T>
  void operator()(T* handle) const {
    Free(handle);
  }
};

}  // namespace agentvm
