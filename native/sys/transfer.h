// What every call that moves bytes has to observe.
#pragma once

#include <sys/socket.h>

#include <cstddef>

namespace forkbeard::sys {

// A peer that is gone is EPIPE and no SIGPIPE.
#if defined(MSG_NOSIGNAL)
constexpr int kNoSignal = MSG_NOSIGNAL;
#else
constexpr int kNoSignal = 0;  // SO_NOSIGPIPE does it, see native/descriptors.cc
#endif

// What Linux transfers at most in one call; Darwin refuses more than INT_MAX. The count always fits an int32.
constexpr size_t kMaxTransfer = 0x7ffff000;

}  // namespace forkbeard::sys
