// Socket options by name, and multicast groups. What a platform does not have is not in the table; an option is called
// by its index in it.
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>
#include <iterator>

#include "js.h"
#include "sys/address.h"
#include "sys/registry.h"

namespace forkbeard::sys {
namespace {

struct Option {
  const char* name;
  int level;
  int number;
};

constexpr Option kOptions[] = {
    {"reuseAddress", SOL_SOCKET, SO_REUSEADDR},
    {"reusePort", SOL_SOCKET, SO_REUSEPORT},
    {"keepAlive", SOL_SOCKET, SO_KEEPALIVE},
    {"broadcast", SOL_SOCKET, SO_BROADCAST},
    {"sendBuffer", SOL_SOCKET, SO_SNDBUF},
    {"receiveBuffer", SOL_SOCKET, SO_RCVBUF},
    {"receiveLowWater", SOL_SOCKET, SO_RCVLOWAT},
    {"linger", SOL_SOCKET, SO_LINGER},
    {"error", SOL_SOCKET, SO_ERROR},
    {"type", SOL_SOCKET, SO_TYPE},
#if defined(SO_ACCEPTCONN)
    {"acceptConnections", SOL_SOCKET, SO_ACCEPTCONN},
#endif
#if defined(SO_DOMAIN)
    {"family", SOL_SOCKET, SO_DOMAIN},
#endif
#if defined(SO_PASSCRED)
    {"passCredentials", SOL_SOCKET, SO_PASSCRED},
#endif
#if defined(SO_INCOMING_CPU)
    {"incomingCpu", SOL_SOCKET, SO_INCOMING_CPU},
#endif
    {"noDelay", IPPROTO_TCP, TCP_NODELAY},
    {"keepAliveInterval", IPPROTO_TCP, TCP_KEEPINTVL},
    {"keepAliveCount", IPPROTO_TCP, TCP_KEEPCNT},
#if defined(TCP_KEEPIDLE)
    {"keepAliveIdle", IPPROTO_TCP, TCP_KEEPIDLE},
#elif defined(TCP_KEEPALIVE)
    {"keepAliveIdle", IPPROTO_TCP, TCP_KEEPALIVE},
#endif
#if defined(TCP_CORK)
    {"cork", IPPROTO_TCP, TCP_CORK},
#elif defined(TCP_NOPUSH)
    {"cork", IPPROTO_TCP, TCP_NOPUSH},
#endif
#if defined(TCP_QUICKACK)
    {"quickAck", IPPROTO_TCP, TCP_QUICKACK},
#endif
#if defined(TCP_DEFER_ACCEPT)
    {"deferAccept", IPPROTO_TCP, TCP_DEFER_ACCEPT},
#endif
#if defined(TCP_FASTOPEN)
    {"fastOpen", IPPROTO_TCP, TCP_FASTOPEN},
#endif
#if defined(TCP_USER_TIMEOUT)
    {"userTimeout", IPPROTO_TCP, TCP_USER_TIMEOUT},
#endif
#if defined(TCP_NOTSENT_LOWAT)
    {"notSentLowWater", IPPROTO_TCP, TCP_NOTSENT_LOWAT},
#endif
    {"v6Only", IPPROTO_IPV6, IPV6_V6ONLY},
    {"ttl", IPPROTO_IP, IP_TTL},
    {"hopLimit", IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {"trafficClass", IPPROTO_IP, IP_TOS},
    {"multicastTtl", IPPROTO_IP, IP_MULTICAST_TTL},
    {"multicastLoop", IPPROTO_IP, IP_MULTICAST_LOOP},
    {"multicastHopLimit", IPPROTO_IPV6, IPV6_MULTICAST_HOPS},
    {"multicastLoop6", IPPROTO_IPV6, IPV6_MULTICAST_LOOP},
};
// A struct in the kernel; here it is its seconds, or -1 for off.
bool IsLinger(const Option& option) { return option.level == SOL_SOCKET && option.number == SO_LINGER; }

const Option* Find(int32_t index) {
  return index >= 0 && static_cast<size_t>(index) < std::size(kOptions) ? &kOptions[index] : nullptr;
}

// (fd, index, value)
napi_value SetSocketOption(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t fd, index, value;
  if (!call.Int(0, &fd) || !call.Int(1, &index) || !call.Int(2, &value)) return nullptr;
  const Option* option = Find(index);
  if (option == nullptr) return nullptr;
  linger seconds = {.l_onoff = value >= 0, .l_linger = value >= 0 ? value : 0};
  int result = IsLinger(*option) ? setsockopt(fd, option->level, option->number, &seconds, sizeof seconds)
                                 : setsockopt(fd, option->level, option->number, &value, sizeof value);
  return js::Int(env, result < 0 ? -errno : 0);
}

// (fd, index, out): the value in out[0]
napi_value GetSocketOption(napi_env env, napi_callback_info info) {
  js::Call<3> call(env, info);
  int32_t fd, index;
  std::span<int32_t> out;
  if (!call.Int(0, &fd) || !call.Int(1, &index) || !call.Ints(2, 1, &out)) return nullptr;
  const Option* option = Find(index);
  if (option == nullptr) return nullptr;
  union {
    int number;
    unsigned char byte;
    linger seconds;
  } value = {};
  socklen_t length = IsLinger(*option) ? sizeof value.seconds : sizeof value.number;
  if (getsockopt(fd, option->level, option->number, &value, &length) < 0) return js::Int(env, -errno);
  if (IsLinger(*option)) {
    out[0] = value.seconds.l_onoff ? value.seconds.l_linger : -1;
  } else {
    // The BSDs give some of the multicast options as a byte.
    out[0] = length == 1 ? value.byte : value.number;
  }
  return js::Int(env, 0);
}

// (fd, join, group, device)
napi_value Multicast(napi_env env, napi_callback_info info) {
  js::Call<4> call(env, info);
  int32_t fd;
  bool join;
  SocketAddress group;
  int error = 0;
  char device[IF_NAMESIZE + 1];
  size_t length;
  if (!call.Int(0, &fd) || !call.Bool(1, &join) || !ReadHost(env, call[2], 0, &group, &error) ||
      napi_get_value_string_utf8(env, call[3], device, sizeof device, &length) != napi_ok) {
    return nullptr;
  }
  if (error < 0) return js::Int(env, error);
  group_req request = {};
  request.gr_interface = length == 0 ? 0 : if_nametoindex(device);
  if (length > 0 && request.gr_interface == 0) return js::Int(env, -ENODEV);
  memcpy(&request.gr_group, &group.storage, group.length);
  int level = group.family() == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
  int result = setsockopt(fd, level, join ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP, &request, sizeof request);
  return js::Int(env, result < 0 ? -errno : 0);
}

}  // namespace

void RegisterOptions(napi_env env, napi_value exports) {
  js::SetFunction(env, exports, "setSocketOption", SetSocketOption);
  js::SetFunction(env, exports, "getSocketOption", GetSocketOption);
  js::SetFunction(env, exports, "multicast", Multicast);
  napi_value names = nullptr;
  napi_create_array_with_length(env, std::size(kOptions), &names);
  for (uint32_t index = 0; index < std::size(kOptions); index++) {
    napi_set_element(env, names, index, js::String(env, kOptions[index].name));
  }
  js::Set(env, exports, "socketOptions", names);
}

}  // namespace forkbeard::sys
