#pragma once
// What a server shows in a handshake, for those who link OpenSSL.

#include "proxy/tls/handles.hpp"

namespace agentvm::proxy {

struct Leaf {
  Certificate certificate;
  Key key;
};

}  // namespace agentvm::proxy
