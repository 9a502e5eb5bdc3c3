#pragma once
// libvirt's C handles as owned values, and the one place where its errors become ours.

#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "vmm/base/error.hpp"

namespace agentvm::libvirt {

struct HandleCloser {
  void operator()(virConnect* handle) const { virConnectClose(handle); }
  void operator()(virDomain* handle) const { virDomainFree(handle); }
  void operator()(char* text) const { std::free(text); }
};
using Connection = std::unique_ptr<virConnect, HandleCloser>;
using Domain = std::unique_ptr<virDomain, HandleCloser>;
using Text = std::unique_ptr<char, HandleCloser>;

/// An error of the library with its own number, for the few places that decide on it.
class LibraryError : public Error {
 public:
  LibraryError(ErrorCode error_code, std::string message, std::string hint, int number)
      : Error(error_code, std::move(message), std::move(hint)), number_(number) {}
  int number() const { return number_; }  ///< virErrorNumber

 private:
  int number_;
};

/// Throws the calling thread's last libvirt error. Must be called right after the failed call: the error is per thread
/// and the next call replaces it.
[[noreturn]] void throw_last_error(std::string_view what);

/// `result` unless it says failure (a null pointer or a negative number).
template <class T>
T check_libvirt(T result, std::string_view what) {
  if constexpr (std::is_pointer_v<T>) {
    if (!result) throw_last_error(what);
  } else {
    if (result < 0) throw_last_error(what);
  }
  return result;
}

/// Initialises the library once per process, silences its own printing and starts the thread that runs its event loop
/// (which lives until the process ends: an open embedded driver needs it).
void ensure_library();

}  // namespace agentvm::libvirt
