#pragma once
// Lines of JSON that a building process prints for whoever started it: {"step","text","percent"}, then one {"result"}
// or {"error"}.

#include <filesystem>
#include <functional>
#include <stop_token>

#include "vmm/base/clock.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm {

/// A `Progress` that prints lines to descriptor `fd`. A reader that went away ends nothing: the lines are dropped.
Progress progress_lines(int fd);
void print_result(int fd, const Json& result);
void print_error(int fd, const Error& error);
/// Runs `work` and returns the exit status of the program; what it throws is printed on standard output first.
int run_program(const std::function<int()>& work);

/// Runs a process that prints such lines, relays its progress and returns its result. `spec` gets stdout; its stderr
/// goes to `log`. Throws the error it printed; when it died without one, the error that `log` explains. Kills it at the
/// deadline.
/// `stop` kills it: `cancelled`. `what` names the work in errors.
Json relay(ProcessSpec spec, const std::filesystem::path& log, const Progress& progress, Deadline deadline,
           const std::stop_token& stop = {}, const std::string& what = "the image build");

}  // namespace agentvm
