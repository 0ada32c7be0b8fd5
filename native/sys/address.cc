// Parsing and printing socket addresses. See address.h.
#include "sys/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>

#include <charconv>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <string_view>

namespace forkbeard {
namespace {

constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);

void SetLength(SocketAddress* address, size_t length) {
  address->length = static_cast<socklen_t>(length);
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__)
  address->get()->sa_len = static_cast<uint8_t>(length);
#endif
}

// A scope is the name of an interface or its number.
int ReadScope(const char* text, uint32_t* scope) {
  const char* end = text + strlen(text);
  auto [rest, bad] = std::from_chars(text, end, *scope);
  if (bad == std::errc() && rest == end) return 0;
  *scope = if_nametoindex(text);
  return *scope == 0 ? -ENODEV : 0;
}

}  // namespace

bool ReadPath(napi_env env, napi_value path, SocketAddress* address) {
  // Two more than fits: one for the zero that Node-API writes, one to notice a path that is too long.
  char text[kMaxPath + 2];
  size_t length;
  if (napi_get_value_string_utf8(env, path, text, sizeof text, &length) != napi_ok) return false;
  bool abstract = length > 0 && text[0] == '\0';
  if (length > (abstract ? kMaxPath : kMaxPath - 1)) return false;
  if (!abstract && memchr(text, '\0', length) != nullptr) return false;
#if !defined(__linux__)
  if (abstract) return false;
#endif
  auto* target = reinterpret_cast<sockaddr_un*>(&address->storage);
  target->sun_family = AF_UNIX;
  memcpy(target->sun_path, text, length);
  if (length > 0 && !abstract) target->sun_path[length++] = '\0';
  // No path at all makes Linux choose an abstract name at bind(2).
  SetLength(address, kPathOffset + length);
  return true;
}

bool ReadHost(napi_env env, napi_value host, uint16_t port, SocketAddress* address, int* error) {
  char text[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE + 1];
  size_t length;
  if (napi_get_value_string_utf8(env, host, text, sizeof text, &length) != napi_ok) return false;
  // A longer string was cut short, and one with a zero inside would be.
  if (length >= sizeof text - 1 || strlen(text) != length) return false;
  if (std::string_view(text, length) == "localhost") strcpy(text, "127.0.0.1");

  if (memchr(text, ':', length) == nullptr) {
    auto* target = reinterpret_cast<sockaddr_in*>(&address->storage);
    *target = {};
    if (inet_pton(AF_INET, text, &target->sin_addr) != 1) return false;
    target->sin_family = AF_INET;
    target->sin_port = htons(port);
    SetLength(address, sizeof *target);
    return true;
  }
  auto* target = reinterpret_cast<sockaddr_in6*>(&address->storage);
  *target = {};
  char* percent = strchr(text, '%');
  if (percent != nullptr) *percent = '\0';
  if (inet_pton(AF_INET6, text, &target->sin6_addr) != 1) return false;
  if (percent != nullptr) {
    if (percent[1] == '\0') return false;
    *error = ReadScope(percent + 1, &target->sin6_scope_id);
  }
  target->sin6_family = AF_INET6;
  target->sin6_port = htons(port);
  SetLength(address, sizeof *target);
  return true;
}

napi_value AddressText(napi_env env, const SocketAddress& address, int32_t* port) {
  *port = -1;
  napi_value result = nullptr;
  if (address.family() == AF_INET) {
    auto* source = reinterpret_cast<const sockaddr_in*>(&address.storage);
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &source->sin_addr, text, sizeof text);
    *port = ntohs(source->sin_port);
    napi_create_string_latin1(env, text, NAPI_AUTO_LENGTH, &result);
    return result;
  }
  if (address.family() == AF_INET6) {
    auto* source = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    char text[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE + 1];
    inet_ntop(AF_INET6, &source->sin6_addr, text, INET6_ADDRSTRLEN);
    if (source->sin6_scope_id != 0) {
      char* end = text + strlen(text);
      *end++ = '%';
      if (if_indextoname(source->sin6_scope_id, end) == nullptr) {
        *std::to_chars(end, std::end(text) - 1, source->sin6_scope_id).ptr = '\0';
      }
    }
    *port = ntohs(source->sin6_port);
    napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &result);
    return result;
  }
  auto* source = reinterpret_cast<const sockaddr_un*>(&address.storage);
  size_t length = address.length > kPathOffset ? address.length - kPathOffset : 0;
  if (length > kMaxPath) length = kMaxPath;
  // A name in the file system ends at its zero, if it has one; an abstract one is all of its bytes.
  if (length > 0 && source->sun_path[0] != '\0') length = strnlen(source->sun_path, length);
#if !defined(__linux__)
  if (length > 0 && source->sun_path[0] == '\0') length = 0;
#endif
  napi_create_string_utf8(env, source->sun_path, length, &result);
  return result;
}

}  // namespace forkbeard
