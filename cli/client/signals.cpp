#include "cli/client/signals.hpp"

#include <string_view>

#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/base/error.hpp"

namespace agentvm::cli {

namespace {
constexpr std::pair<std::string_view, int> names[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"ILL", SIGILL},   {"TRAP", SIGTRAP}, {"ABRT", SIGABRT},
    {"BUS", SIGBUS},   {"FPE", SIGFPE},   {"KILL", SIGKILL}, {"USR1", SIGUSR1}, {"SEGV", SIGSEGV}, {"USR2", SIGUSR2},
    {"PIPE", SIGPIPE}, {"ALRM", SIGALRM}, {"TERM", SIGTERM}, {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ}, {"SYS", SIGSYS}};
}

SignalWatch::SignalWatch(Window window) {
  sigset_t watched;
  ::sigemptyset(&watched);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    // A signal that our parent chose to ignore (nohup) stays ignored.
    struct sigaction current {};
    ::sigaction(number, nullptr, &current);
    if (current.sa_handler != SIG_IGN) ::sigaddset(&watched, number);
  }
  if (window == Window::watch) {
    ::sigaddset(&watched, SIGWINCH);
    ::sigaddset(&watched, SIGCONT);
  }
  ::pthread_sigmask(SIG_BLOCK, &watched, &before_);
  fd_.reset(check_errno(::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd"));
}

SignalWatch::~SignalWatch() {
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

std::optional<int> SignalWatch::take() {
  signalfd_siginfo info{};
  if (::read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

void end_by_sigpipe() {
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t pipe_signal;
  ::sigemptyset(&pipe_signal);
  ::sigaddset(&pipe_signal, SIGPIPE);
  ::pthread_sigmask(SIG_UNBLOCK, &pipe_signal, nullptr);
  ::raise(SIGPIPE);
  ::_exit(signal_exit_base + SIGPIPE);
}

const char* signal_name(int number) {
  for (const auto& [name, value] : names)
    if (value == number) return name.data();
  return "";
}

int signal_number(std::string_view name) {
  for (const auto& [known, value] : names)
    if (known == name) return value;
  return 0;
}

}  // namespace agentvm::cli
