// What every call that moves bytes has to observe.
#pragma once

#include <node_api.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace forkbeard::sys {

// A peer that is gone is EPIPE and no SIGPIPE.
#if defined(MSG_NOSIGNAL)
constexpr int kNoSignal = MSG_NOSIGNAL;
#else
constexpr int kNoSignal = 0;  // SO_NOSIGPIPE does it, see native/descriptors.cc
#endif

// What Linux transfers at most in one call; Darwin refuses more than INT_MAX. The count always fits an int32.
constexpr size_t kMaxTransfer = 0x7ffff000;

// What the calls of one frame know: see transfer.cc. Belongs to an environment, as often as lib/sys is loaded there.
struct Transfers {
  Transfers(napi_env environment, napi_ref ref, int32_t* words)
      : frame(words), env_(environment), frame_ref_(ref) {}
  ~Transfers() { napi_delete_reference(env_, frame_ref_); }
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  int32_t* frame;
  // The buffers that were looked up last, for what comes in and for what goes out. Only JavaScript knows whether one is
  // still there, and names none only if it is.
  std::span<uint8_t> bytes[2];

 private:
  napi_env env_;
  napi_ref frame_ref_;
};

}  // namespace forkbeard::sys
