// Sockets: made, bound, listened on, connected, accepted from, shut down, asked for their addresses.
#include <errno.h>
#include <sys/socket.h>

#include "descriptors.h"
#include "js.h"
#include "sys/address.h"
#include "sys/registry.h"

namespace forkbeard::sys {
namespace {

// (domain, type)
napi_value Socket(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t domain, type;
  if (!call.Int(0, &domain) || !call.Int(1, &type)) return nullptr;
  return js::Int(env, MakeSocket(domain, type));
}

// (type, out): the two descriptors in `out`
napi_value SocketPair(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t type;
  std::span<int32_t> out;
  if (!call.Int(0, &type) || !call.Ints(1, 2, &out)) return nullptr;
  return js::Int(env, MakeSocketPair(type, out.data()));
}

// (fd)
napi_value Accept(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  int32_t fd;
  if (!call.Int(0, &fd) || fd < 0) return nullptr;
  return js::Int(env, AcceptConnection(fd));
}

// (fd, host, port) or (fd, path)
napi_value Connect(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t fd;
  SocketAddress address;
  int error;
  if (!call.Int(0, &fd) || fd < 0 || !ReadAddress(call, 1, &address, &error)) return nullptr;
  if (error < 0) return js::Int(env, error);
  if (connect(fd, address.get(), address.length) == 0) return js::Int(env, 0);
  // An interrupted connect(2) goes on by itself and must not be repeated (POSIX: it would say EALREADY).
  return js::Int(env, errno == EINTR ? -EINPROGRESS : -errno);
}

// (fd, host, port) or (fd, path)
napi_value Bind(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t fd;
  SocketAddress address;
  int error;
  if (!call.Int(0, &fd) || fd < 0 || !ReadAddress(call, 1, &address, &error)) return nullptr;
  if (error < 0) return js::Int(env, error);
  return js::Int(env, bind(fd, address.get(), address.length) < 0 ? -errno : 0);
}

// (fd, backlog)
napi_value Listen(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t fd, backlog;
  if (!call.Int(0, &fd) || fd < 0 || !call.Int(1, &backlog)) return nullptr;
  return js::Int(env, listen(fd, backlog) < 0 ? -errno : 0);
}

// (fd, how)
napi_value Shutdown(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t fd, how;
  if (!call.Int(0, &fd) || fd < 0 || !call.Int(1, &how)) return nullptr;
  return js::Int(env, shutdown(fd, how) < 0 ? -errno : 0);
}

// (fd, out): the host or path, with the port or -1 in out[1]; a number when the kernel refuses
napi_value Name(napi_env env, napi_callback_info info, int (*ask)(int, sockaddr*, socklen_t*)) {
  js::Call<2> call(env, info);
  int32_t fd;
  std::span<int32_t> out;
  if (!call.Int(0, &fd) || fd < 0 || !call.Ints(1, 2, &out)) return nullptr;
  SocketAddress address;
  address.length = sizeof address.storage;
  if (ask(fd, address.get(), &address.length) < 0) return js::Int(env, -errno);
  return AddressText(env, address, &out[1]);
}
napi_value LocalAddress(napi_env env, napi_callback_info info) { return Name(env, info, getsockname); }
napi_value PeerAddress(napi_env env, napi_callback_info info) { return Name(env, info, getpeername); }

}  // namespace

void RegisterSockets(napi_env env, napi_value exports) {
  js::SetFunction(env, exports, "socket", Socket);
  js::SetFunction(env, exports, "socketpair", SocketPair);
  js::SetFunction(env, exports, "accept", Accept);
  js::SetFunction(env, exports, "connect", Connect);
  js::SetFunction(env, exports, "bind", Bind);
  js::SetFunction(env, exports, "listen", Listen);
  js::SetFunction(env, exports, "shutdown", Shutdown);
  js::SetFunction(env, exports, "localAddress", LocalAddress);
  js::SetFunction(env, exports, "peerAddress", PeerAddress);

  js::Set(env, exports, "AF_INET", js::Int(env, AF_INET));
  js::Set(env, exports, "AF_INET6", js::Int(env, AF_INET6));
  js::Set(env, exports, "AF_UNIX", js::Int(env, AF_UNIX));
  js::Set(env, exports, "SOCK_STREAM", js::Int(env, SOCK_STREAM));
  js::Set(env, exports, "SOCK_DGRAM", js::Int(env, SOCK_DGRAM));
  js::Set(env, exports, "SOCK_SEQPACKET", js::Int(env, SOCK_SEQPACKET));
  js::Set(env, exports, "maxPath", js::Int(env, kMaxPath));
}

}  // namespace forkbeard::sys
