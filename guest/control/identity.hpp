#pragma once
// The identity as the host's callers see it: one definition for both sides of the port.
#include "guest/protocol/identity.hpp"
