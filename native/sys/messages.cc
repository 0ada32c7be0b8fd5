// What travels beside the bytes of a unix socket: descriptors (SCM_RIGHTS) and credentials. A descriptor that arrives
// is open in this process from that moment, so each one is either handed on or closed here.
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "descriptors.h"
#include "js.h"
#include "sys/address.h"
#include "sys/registry.h"
#include "sys/transfer.h"

namespace forkbeard::sys {
namespace {

constexpr size_t kMaxDescriptors =
    253;  // Linux' SCM_MAX_FD; the BSDs take more, but portable callers cannot know

// Room for the most descriptors a message can carry, and for what the kernel may add to them when the socket asks for
// it (credentials, a pidfd, a security label): a buffer that is too small would lose descriptors.
constexpr size_t kControlSize = CMSG_SPACE(kMaxDescriptors * sizeof(int)) + 1024;

#if defined(__linux__)
constexpr int kPidfd = 4;  // SCM_PIDFD, which the C library's headers do not know yet
#endif

// What ReceiveDescriptors writes: these, then the descriptors.
enum Slot : size_t { kCount, kTruncated, kPid, kUid, kGid, kFirst };

// (fd, bytes, descriptors, count)
napi_value SendDescriptors(napi_env env, napi_callback_info info) {
  js::Call<4> call(env, info);
  int32_t fd, count;
  std::span<uint8_t> bytes;
  std::span<int32_t> descriptors;
  if (!call.Int(0, &fd) || !call.Bytes(1, &bytes) || !call.Ints(2, 0, &descriptors) || !call.Int(3, &count) ||
      count < 0 || static_cast<size_t>(count) > std::min(descriptors.size(), kMaxDescriptors)) {
    return nullptr;
  }
  iovec vector = {bytes.data(), bytes.size()};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};
  if (count > 0) {
    size_t size = static_cast<size_t>(count) * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = static_cast<decltype(message.msg_controllen)>(CMSG_SPACE(size));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = static_cast<decltype(header->cmsg_len)>(CMSG_LEN(size));
    memcpy(CMSG_DATA(header), descriptors.data(), size);
  }
  ssize_t sent;
  do {
    sent = sendmsg(fd, &message, kNoSignal);
  } while (sent < 0 && errno == EINTR);
  return js::Int(env, static_cast<int32_t>(sent < 0 ? -errno : sent));
}

cmsghdr* Next(msghdr* message, cmsghdr* header) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare"  // inside of musl's macro
  return CMSG_NXTHDR(message, header);
#pragma GCC diagnostic pop
}

// Hands on the descriptors of one control message as far as there is room for them.
void TakeDescriptors(const cmsghdr* header, size_t max, std::span<int32_t> out) {
  size_t size = header->cmsg_len - CMSG_LEN(0);
  for (size_t at = 0; at + sizeof(int) <= size; at += sizeof(int)) {
    int fd;
    memcpy(&fd, CMSG_DATA(header) + at, sizeof fd);
    size_t count = static_cast<size_t>(out[kCount]);
    if (count >= max) {
      close(fd);
      out[kTruncated] = 1;
      continue;
    }
#if !defined(MSG_CMSG_CLOEXEC)
    SetCloseOnExec(fd, true);
#endif
    out[kFirst + count] = fd;
    out[kCount]++;
  }
}

// (fd, buffer, max, out): the byte count. `out` is [count, truncated, pid, uid, gid, descriptors…], with pid -1 where no
// credentials came along.
napi_value ReceiveDescriptors(napi_env env, napi_callback_info info) {
  js::Call<4> call(env, info);
  int32_t fd, max;
  std::span<uint8_t> bytes;
  std::span<int32_t> out;
  if (!call.Int(0, &fd) || !call.Bytes(1, &bytes) || !call.Int(2, &max) || max < 0 ||
      !call.Ints(3, kFirst + static_cast<size_t>(max), &out)) {
    return nullptr;
  }
  iovec vector = {bytes.data(), std::min(bytes.size(), kMaxTransfer)};
  alignas(cmsghdr) char control[kControlSize];
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
#if defined(MSG_CMSG_CLOEXEC)
  constexpr int kFlags = MSG_CMSG_CLOEXEC;
#else
  constexpr int kFlags = 0;
#endif
  ssize_t received;
  do {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    received = recvmsg(fd, &message, kFlags);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return js::Int(env, -errno);

  out[kCount] = 0;
  // Also set when this process may not have so many descriptors: the kernel has closed the rest already.
  out[kTruncated] = (message.msg_flags & MSG_CTRUNC) != 0;
  out[kPid] = -1;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = Next(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    if (header->cmsg_type == SCM_RIGHTS) TakeDescriptors(header, static_cast<size_t>(max), out);
#if defined(SCM_CREDENTIALS)
    if (header->cmsg_type == SCM_CREDENTIALS && header->cmsg_len >= CMSG_LEN(sizeof(ucred))) {
      ucred credentials;
      memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
      out[kPid] = credentials.pid;
      out[kUid] = static_cast<int32_t>(credentials.uid);
      out[kGid] = static_cast<int32_t>(credentials.gid);
    }
#endif
#if defined(__linux__)
    // Comes when whoever shares this socket has asked for it (SO_PASSPIDFD).
    if (header->cmsg_type == kPidfd && header->cmsg_len >= CMSG_LEN(sizeof(int))) {
      int pidfd;
      memcpy(&pidfd, CMSG_DATA(header), sizeof pidfd);
      if (pidfd >= 0) close(pidfd);
    }
#endif
  }
  return js::Int(env, static_cast<int32_t>(received));
}

// (fd, out): [pid, uid, gid] in `out`
napi_value PeerCredentials(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t fd;
  std::span<int32_t> out;
  if (!call.Int(0, &fd) || !call.Ints(1, 3, &out)) return nullptr;
  SocketAddress address;
  address.length = sizeof address.storage;
  if (getsockname(fd, address.get(), &address.length) < 0) return js::Int(env, -errno);
  if (address.family() != AF_UNIX) return js::Int(env, -EOPNOTSUPP);
#if defined(SO_PEERCRED) && defined(__linux__)
  ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return js::Int(env, -errno);
  // The kernel's answer for a socket without a peer.
  if (credentials.uid == static_cast<uid_t>(-1)) return js::Int(env, -ENOTCONN);
  out[0] = credentials.pid;
  out[1] = static_cast<int32_t>(credentials.uid);
  out[2] = static_cast<int32_t>(credentials.gid);
#else
  uid_t uid;
  gid_t gid;
  if (getpeereid(fd, &uid, &gid) < 0) return js::Int(env, -errno);
  pid_t pid = 0;
#if defined(LOCAL_PEERPID)
  socklen_t length = sizeof pid;
  if (getsockopt(fd, SOL_LOCAL, LOCAL_PEERPID, &pid, &length) < 0) return js::Int(env, -errno);
#endif
  out[0] = pid;
  out[1] = static_cast<int32_t>(uid);
  out[2] = static_cast<int32_t>(gid);
#endif
  return js::Int(env, 0);
}

}  // namespace

void RegisterMessages(napi_env env, napi_value exports) {
  js::SetFunction(env, exports, "sendDescriptors", SendDescriptors);
  js::SetFunction(env, exports, "receiveDescriptors", ReceiveDescriptors);
  js::SetFunction(env, exports, "peerCredentials", PeerCredentials);
  js::Set(env, exports, "maxDescriptors", js::Int(env, kMaxDescriptors));
}

}  // namespace forkbeard::sys
