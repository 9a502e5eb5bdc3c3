#pragma once
// Text from a guest on its way to a terminal, a log or a page.

#include <string>
#include <string_view>

namespace agentvm {

enum class Newlines { keep, escape };

/// Every byte that could steer a terminal or deceive a reader becomes visible: C0 and C1 controls, ESC, DEL,
/// bidirectional and other invisible format characters and invalid UTF-8 are written as \xNN or \u{NNNN}. Tabs and
/// (with `keep`) newlines stay. At most `limit_bytes` of output; a cut is marked with "...".
std::string clean_guest_text(std::string_view text, Newlines newlines = Newlines::escape,
                             std::size_t limit_bytes = 4096);

/// `text` for a POSIX shell: quoted when it needs to be.
std::string shell_word(const std::string& text);

}  // namespace agentvm
