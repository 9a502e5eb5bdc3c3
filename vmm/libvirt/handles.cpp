#include "vmm/libvirt/handles.hpp"

#include <chrono>
#include <csignal>
#include <mutex>
#include <thread>

#include <fmt/format.h>
#include <pthread.h>

#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::libvirt {
namespace {

ErrorCode code_of(int number) {
  switch (number) {
    case VIR_ERR_NO_DOMAIN:
      return ErrorCode::not_found;
    case VIR_ERR_OPERATION_INVALID:
    case VIR_ERR_DOM_EXIST:
      return ErrorCode::wrong_state;
    case VIR_ERR_OPERATION_TIMEOUT:
      return ErrorCode::timed_out;
    case VIR_ERR_NO_SUPPORT:
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_NO_MEMORY:
      return ErrorCode::host_lacks;
    default:
      return ErrorCode::operation_failed;
  }
}

void run_event_loop() {
  for (;;)
    if (virEventRunDefaultImpl() < 0) {
      log::error("libvirt", "event loop: {}", virGetLastErrorMessage());
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
}

void initialise() {
  // The library prints errors to standard error by itself, besides handing them out. The variable is for whoever debugs
  // it.
  ::setenv("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null", 0);
  virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
  check_libvirt(virInitialize(), "starting libvirt");
  check_libvirt(virEventRegisterDefaultImpl(), "starting libvirt's event loop");
  // Signals belong to the program's own threads.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread(run_event_loop).detach();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

void throw_last_error(std::string_view what) {
  const auto* error = virGetLastError();
  const int number = error ? error->code : VIR_ERR_INTERNAL_ERROR;
  // The text may quote QEMU's output, and so the guest's.
  const auto text =
      clean_guest_text(error && error->message ? error->message : "unknown libvirt error", Newlines::escape, 2048);
  throw LibraryError(code_of(number), fmt::format("{}: {}", what, text),
                     number == VIR_ERR_NO_DOMAIN ? "" : "agentvm doctor", number);
}

void ensure_library() {
  static std::once_flag once;
  std::call_once(once, initialise);
}

}  // namespace agentvm::libvirt
