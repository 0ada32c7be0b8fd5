// The data path: read, write, recv, send, recvFrom, sendTo.
//
// The first four are called once or twice for every message of a server, and asking Node-API for four arguments takes
// longer than anything else that happens to a small message outside of the kernel. So what a call is about stands in a
// frame, an array that both sides see, filled and checked by lib/sys/transfer.ts; and a buffer that is used again and
// again is looked up only once.
//
// Safe for every kind of array: the length that Node-API gives is 0 for a detached or shrunken buffer, and memory
// cannot move during the call, for no JavaScript runs in it.
#include "sys/transfer.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "addon.h"
#include "js.h"
#include "sys/address.h"
#include "sys/registry.h"

namespace forkbeard::sys {
namespace {

// Where in the frame: the arguments, and what came of the call. The same in lib/sys/transfer.ts.
enum Word : uint8_t { kFd, kOffset, kLength, kResult, kWords };
enum Side : uint8_t { kInput, kOutput };

template <typename Transfer>
inline int32_t Run(Transfer transfer) {
  ssize_t count;
  do {
    count = transfer();
  } while (count < 0 && errno == EINTR);
  return static_cast<int32_t>(count < 0 ? -errno : count);
}

ssize_t Read(int fd, std::span<uint8_t> bytes) { return ::read(fd, bytes.data(), bytes.size()); }
ssize_t Write(int fd, std::span<uint8_t> bytes) { return ::write(fd, bytes.data(), bytes.size()); }
ssize_t Recv(int fd, std::span<uint8_t> bytes) { return ::recv(fd, bytes.data(), bytes.size(), 0); }
ssize_t Send(int fd, std::span<uint8_t> bytes) { return ::send(fd, bytes.data(), bytes.size(), kNoSignal); }

// (buffer) or, if it is the one that this side had last and has not changed since, (). The rest is in the frame.
template <ssize_t (*transfer)(int, std::span<uint8_t>), Side side>
napi_value FramedTransfer(napi_env env, napi_callback_info info) {
  size_t count = 0;
  void* data = nullptr;
  napi_get_cb_info(env, info, &count, nullptr, nullptr, &data);
  auto* transfers = static_cast<Transfers*>(data);
  std::span<uint8_t>& bytes = transfers->bytes[side];
  if (count > 0 && !js::Call<1>(env, info).Bytes(0, &bytes)) bytes = {};
  int32_t* frame = transfers->frame;
  auto offset = static_cast<uint32_t>(frame[kOffset]);
  auto length = static_cast<uint32_t>(frame[kLength]);
  if (offset > bytes.size() || length > bytes.size() - offset) {
    frame[kResult] = -EINVAL;
    return nullptr;
  }
  std::span<uint8_t> part = bytes.subspan(offset, std::min<size_t>(length, kMaxTransfer));
  frame[kResult] = Run([&] { return transfer(frame[kFd], part); });
  return nullptr;
}

// transfers(frame): the four calls with this frame, an Int32Array whose memory nobody takes away.
napi_value MakeTransfers(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  std::span<int32_t> frame;
  napi_ref ref;
  if (!call.Ints(0, kWords, &frame) || napi_create_reference(env, call[0], 1, &ref) != napi_ok)
    return nullptr;
  auto& all = Addon::Of(env)->transfers;
  Transfers* transfers = all.emplace_back(std::make_unique<Transfers>(env, ref, frame.data())).get();
  napi_value calls = js::Object(env);
  js::SetFunction(env, calls, "read", FramedTransfer<Read, kInput>, transfers);
  js::SetFunction(env, calls, "write", FramedTransfer<Write, kOutput>, transfers);
  js::SetFunction(env, calls, "recv", FramedTransfer<Recv, kInput>, transfers);
  js::SetFunction(env, calls, "send", FramedTransfer<Send, kOutput>, transfers);
  return calls;
}

// (fd, buffer, out): the sender's host or path, with [bytes, port or -1] in `out`; a number when the kernel refuses.
napi_value RecvFrom(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t fd;
  std::span<uint8_t> bytes;
  std::span<int32_t> out;
  if (!call.Int(0, &fd) || fd < 0 || !call.Bytes(1, &bytes) || !call.Ints(2, 2, &out)) return nullptr;
  SocketAddress from;
  int32_t count = Run([&] {
    from.length = sizeof from.storage;
    return ::recvfrom(fd, bytes.data(), std::min(bytes.size(), kMaxTransfer), 0, from.get(), &from.length);
  });
  if (count < 0) return js::Int(env, count);
  // Connected streams name no sender with their data: it is their peer.
  if (from.length == 0) {
    from.length = sizeof from.storage;
    if (getpeername(fd, from.get(), &from.length) < 0) from.length = 0;
  }
  out[0] = count;
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
  return js::Int(env, Run([&] {
                   return ::sendto(fd, bytes.data(), std::min(bytes.size(), kMaxTransfer), kNoSignal,
                                   to.get(), to.length);
                 }));
}

}  // namespace

void RegisterTransfer(napi_env env, napi_value exports) {
  js::SetFunction(env, exports, "transfers", MakeTransfers);
  js::SetFunction(env, exports, "recvFrom", RecvFrom);
  js::SetFunction(env, exports, "sendTo", SendTo);
}

}  // namespace forkbeard::sys
