#include "shim/wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace forkbeard::shim {
namespace {

constexpr size_t kHead = 5;
// A plan holds an environment, which the kernel limits to a few megabytes. Whoever announces more is no supervisor.
constexpr uint32_t kLongest = 32u << 20;
// What Linux takes in one message (SCM_MAX_FD).
constexpr size_t kMostDescriptors = 253;

#if !defined(MSG_NOSIGNAL)
constexpr int MSG_NOSIGNAL = 0;  // SIGPIPE is ignored anyway
#endif

uint32_t Number(const char* at) {
  auto byte = [at](int index) { return static_cast<uint32_t>(static_cast<unsigned char>(at[index])); };
  return byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
}

}  // namespace

void Wire::Close() {
  fd_.Reset();
  in_.clear();
  out_.clear();
}

bool Wire::Receive() {
  char buffer[16384];
  for (;;) {
    ssize_t count = ::read(fd_.get(), buffer, sizeof buffer);
    if (count > 0) {
      in_.append(buffer, static_cast<size_t>(count));
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) return false;
    return in_.size() < 4 || Number(in_.data()) <= kLongest;
  }
}

bool Wire::Next(Frame* frame) {
  if (in_.size() < kHead) return false;
  size_t length = Number(in_.data());
  if (in_.size() < kHead + length) return false;
  frame->kind = in_[4];
  frame->body = in_.substr(kHead, length);
  in_.erase(0, kHead + length);
  return true;
}

void Wire::Send(char kind, const std::string& body) {
  if (!open()) return;
  auto length = static_cast<uint32_t>(body.size());
  for (int shift = 0; shift < 32; shift += 8) out_ += static_cast<char>(length >> shift & 0xff);
  out_ += kind;
  out_ += body;
  // An end that is gone is noticed by reading, after what it still had to say.
  Flush();
}

void Wire::SendDescriptors(const std::vector<Fd>& fds) {
  if (!open() || fds.empty() || fds.size() > kMostDescriptors) return;
  char frame[kHead] = {0, 0, 0, 0, 'F'};
  iovec part = {frame, sizeof frame};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostDescriptors)] = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
  for (size_t i = 0; i < fds.size(); ++i) {
    const int fd = fds[i].get();
    memcpy(CMSG_DATA(head) + i * sizeof fd, &fd, sizeof fd);
  }
  ssize_t count;
  do {
    count = sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  } while (count < 0 && errno == EINTR);
  if (count > 0) out_.append(frame + count, sizeof frame - static_cast<size_t>(count));
}

bool Wire::Flush() {
  while (open() && !out_.empty()) {
    ssize_t count = ::send(fd_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    out_.erase(0, static_cast<size_t>(count));
  }
  return true;
}

}  // namespace forkbeard::shim
