// Socket addresses between JavaScript and the kernel. An address crosses as its parts: a host (an IP literal, with
// '%scope' where it needs one) and a port, or a path without a port. Names are never resolved here.
#pragma once

#include <node_api.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "js.h"

namespace forkbeard {

// The most bytes a unix path may have; one less when it is a name in the file system, for its terminating zero.
constexpr size_t kMaxPath = sizeof(sockaddr_un::sun_path);

struct SocketAddress {
  sockaddr_storage storage;
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const { return length == 0 ? AF_UNSPEC : storage.ss_family; }
};

// Reads a host and a port from two arguments, or, when the call has no second one, a unix path. False when they are
// no such thing; a negative errno in `error` when the scope is not one of this machine's interfaces.
template <size_t N>
bool ReadAddress(const js::Call<N>& call, size_t index, SocketAddress* address, int* error);

bool ReadPath(napi_env env, napi_value path, SocketAddress* address);
bool ReadHost(napi_env env, napi_value host, uint16_t port, SocketAddress* address, int* error);

// The host or path of an address. `port` becomes -1 for a unix path.
napi_value AddressText(napi_env env, const SocketAddress& address, int32_t* port);

template <size_t N>
bool ReadAddress(const js::Call<N>& call, size_t index, SocketAddress* address, int* error) {
  *error = 0;
  if (call.count == index + 1) return ReadPath(call.env, call[index], address);
  int32_t port;
  if (!call.Int(index + 1, &port) || port < 0 || port > 0xffff) return false;
  return ReadHost(call.env, call[index], static_cast<uint16_t>(port), address, error);
}

}  // namespace forkbeard
