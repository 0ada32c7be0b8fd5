// The data path: read, write, recv, send, recvFrom, sendTo. Called once or twice for every message of a server, so
// each asks Node-API for no more than it needs: undefined (no value at all) says that the arguments were wrong,
// and lib/sys/transfer.ts finds out which one and throws.
//
// Safe for every kind of array: the length that Node-API gives is 0 for a detached or shrunken buffer, and memory
// cannot move during the call, for no JavaScript runs in it.
#include "sys/transfer.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "js.h"
#include "sys/address.h"
#include "sys/registry.h"

namespace forkbeard::sys {
namespace {

// The part of the array that is meant. Offset and length may be left out, from the right.
template <size_t N>
std::optional<std::span<uint8_t>> Part(const js::Call<N>& call) {
  std::span<uint8_t> bytes;
  if (!call.Bytes(1, &bytes)) return std::nullopt;
  if constexpr (N == 4) {
    if (call.count > 2) {
      double offset = 0;
      if (!call.Number(2, &offset) && !call.Undefined(2)) return std::nullopt;
      // Written so that NaN fails.
      if (!(offset >= 0 && offset <= static_cast<double>(bytes.size())) || offset != std::floor(offset)) {
        return std::nullopt;
      }
      bytes = bytes.subspan(static_cast<size_t>(offset));
      double length = static_cast<double>(bytes.size());
      if (call.count > 3 && !call.Number(3, &length) && !call.Undefined(3)) return std::nullopt;
      if (!(length >= 0 && length <= static_cast<double>(bytes.size())) || length != std::floor(length)) {
        return std::nullopt;
      }
      bytes = bytes.first(static_cast<size_t>(length));
    }
  }
  return bytes.first(std::min(bytes.size(), kMaxTransfer));
}

template <typename Transfer>
inline napi_value Run(napi_env env, Transfer transfer) {
  ssize_t count;
  do {
    count = transfer();
  } while (count < 0 && errno == EINTR);
  return js::Int(env, static_cast<int32_t>(count < 0 ? -errno : count));
}

napi_value Read(napi_env env, napi_callback_info info) {
  js::Call<4> call(env, info);
  int32_t fd;
  auto part = Part(call);
  if (!call.Int(0, &fd) || fd < 0 || !part) return nullptr;
  return Run(env, [&] { return ::read(fd, part->data(), part->size()); });
}

napi_value Write(napi_env env, napi_callback_info info) {
  js::Call<4> call(env, info);
  int32_t fd;
  auto part = Part(call);
  if (!call.Int(0, &fd) || fd < 0 || !part) return nullptr;
  return Run(env, [&] { return ::write(fd, part->data(), part->size()); });
}

napi_value Recv(napi_env env, napi_callback_info info) {
  js::Call<4> call(env, info);
  int32_t fd;
  auto part = Part(call);
  if (!call.Int(0, &fd) || fd < 0 || !part) return nullptr;
  return Run(env, [&] { return ::recv(fd, part->data(), part->size(), 0); });
}

napi_value Send(napi_env env, napi_callback_info info) {
  js::Call<4> call(env, info);
  int32_t fd;
  auto part = Part(call);
  if (!call.Int(0, &fd) || fd < 0 || !part) return nullptr;
  return Run(env, [&] { return ::send(fd, part->data(), part->size(), kNoSignal); });
}

// (fd, buffer, out): the sender's host or path, with [bytes, port or -1] in `out`; a number when the kernel refuses.
napi_value RecvFrom(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t fd;
  auto part = Part(call);
  std::span<int32_t> out;
  if (!call.Int(0, &fd) || fd < 0 || !part || !call.Ints(2, 2, &out)) return nullptr;
  SocketAddress from;
  ssize_t count;
  do {
    from.length = sizeof from.storage;
    count = ::recvfrom(fd, part->data(), part->size(), 0, from.get(), &from.length);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return js::Int(env, -errno);
  // Connected streams name no sender with their data: it is their peer.
  if (from.length == 0) {
    from.length = sizeof from.storage;
    if (getpeername(fd, from.get(), &from.length) < 0) from.length = 0;
  }
  out[0] = static_cast<int32_t>(count);
  return AddressText(env, from, &out[1]);
}

// (fd, buffer, host, port) or (fd, buffer, path)
napi_value SendTo(napi_env env, napi_callback_info info) {
  js::Call<4> call(env, info);
  int32_t fd;
  std::span<uint8_t> bytes;
  SocketAddress to;
  int error;
  if (!call.Int(0, &fd) || fd < 0 || !call.Bytes(1, &bytes) || !ReadAddress(call, 2, &to, &error))
    return nullptr;
  if (error < 0) return js::Int(env, error);
  return Run(env, [&] {
    return ::sendto(fd, bytes.data(), std::min(bytes.size(), kMaxTransfer), kNoSignal, to.get(), to.length);
  });
}

}  // namespace

void RegisterTransfer(napi_env env, napi_value exports) {
  js::SetFunction(env, exports, "read", Read);
  js::SetFunction(env, exports, "write", Write);
  js::SetFunction(env, exports, "recv", Recv);
  js::SetFunction(env, exports, "send", Send);
  js::SetFunction(env, exports, "recvFrom", RecvFrom);
  js::SetFunction(env, exports, "sendTo", SendTo);
}

}  // namespace forkbeard::sys
