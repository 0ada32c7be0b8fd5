// The calls that make descriptors. What they make is close-on-exec and non-blocking from its first moment where the
// kernel can do that, so that a program started by another thread never inherits it; where it cannot, the older call
// and fcntl follow. Used by the sys functions and by whoever needs a pipe or a socket of its own.
//
// All return a descriptor (or 0) or a negative errno. Nothing is left open when they fail.
#pragma once

namespace forkbeard {

// `domain` AF_INET, AF_INET6 or AF_UNIX; `type` SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
int MakeSocket(int domain, int type);
int MakeSocketPair(int type, int out[2]);
// out[0] is the read end.
int MakePipe(int out[2]);
// Takes a connection from a listening socket. Repeated after EINTR.
int AcceptConnection(int listener);
// Lowest free number from `at_least` on. Shares the file status flags with `fd`, so only close-on-exec is set.
int Duplicate(int fd, int at_least);

int SetNonBlocking(int fd, bool on);
int SetCloseOnExec(int fd, bool on);

}  // namespace forkbeard
