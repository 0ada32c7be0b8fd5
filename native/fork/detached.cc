// The process in between borrows our memory while this thread sleeps (vfork), so that page tables are copied once and
// not twice. It does two things there, a fork and its end, and hands on the pid through a page that is shared in any
// case: emulators and sanitizers make a plain fork of vfork.
#include "fork/detached.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <sys/syscall.h>
#if !defined(SYS_pidfd_open)
#define SYS_pidfd_open 434
#endif
#if !defined(SYS_rseq)
#if defined(__x86_64__)
#define SYS_rseq 334
#elif defined(__aarch64__)
#define SYS_rseq 293
#endif
#endif
#endif

#include "pretend.h"

namespace forkbeard {

namespace {

// What the process in between leaves: the pid, or a negative errno; 0 when it came to neither.
class Note {
 public:
  Note() {
    void* page = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED) pid_ = static_cast<std::atomic<pid_t>*>(page);
  }
  ~Note() {
    if (pid_ != nullptr) munmap(pid_, kSize);
  }
  Note(const Note&) = delete;
  Note& operator=(const Note&) = delete;

  explicit operator bool() const { return pid_ != nullptr; }
  void Write(pid_t pid) { pid_->store(pid); }
  pid_t Read() const { return pid_->load(); }

 private:
  static constexpr size_t kSize = 4096;
  std::atomic<pid_t>* pid_ = nullptr;
};

#if defined(__linux__) && defined(__GLIBC__)
// The kernel forgets a thread's area of restartable sequences when memory is borrowed, and a fork has what the borrower
// had. The C library believes in the area all the same: in it a stale processor number would stand for ever.
void RegisterRestartableSequences() {
#if defined(__x86_64__)
  constexpr uint32_t kSignature = 0x53053053;
#elif defined(__aarch64__)
  constexpr uint32_t kSignature = 0xd428bc00;
#else
  return;
#endif
  // glibc 2.35 and later.
  auto* offset = static_cast<const ptrdiff_t*>(dlsym(RTLD_DEFAULT, "__rseq_offset"));
  auto* size = static_cast<const unsigned*>(dlsym(RTLD_DEFAULT, "__rseq_size"));
  if (offset == nullptr || size == nullptr || *size == 0) return;
  constexpr unsigned kLeast = 32;  // of an area, whatever is used of it
  auto* area = static_cast<char*>(__builtin_thread_pointer()) + *offset;
  if (syscall(SYS_rseq, area, *size < kLeast ? kLeast : *size, 0, kSignature) == 0 || errno == EBUSY) return;
  // RSEQ_CPU_ID_REGISTRATION_FAILED: who wants to know the processor asks the kernel.
  reinterpret_cast<volatile int32_t*>(area)[1] = -2;
}
#else
void RegisterRestartableSequences() {}
#endif

}  // namespace

// Returns a second time in the child, on its own copy of the stack.
[[gnu::noinline]] pid_t ForkDetached() {
  Note note;
  if (!note) return -errno;
#if defined(__APPLE__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
#endif
  pid_t between = vfork();  // NOLINT: what is done until the end is async-signal-safe and returns nowhere
#if defined(__APPLE__)
#pragma clang diagnostic pop
#endif
  if (between == 0) {
    pid_t pid = fork();  // NOLINT: as above, and the address space stays ours until it returns
    if (pid == 0) {
      RegisterRestartableSequences();
      return 0;
    }
    note.Write(pid < 0 ? -errno : pid);
    _exit(0);
  }
  if (between < 0) return -errno;
  // It has ended, or is about to. ECHILD: the kernel reaps our children itself, and has done so.
  siginfo_t info;
#if defined(__WALL)
  constexpr int kOptions = WEXITED | __WALL;
#else
  constexpr int kOptions = WEXITED;
#endif
  while (waitid(P_PID, static_cast<id_t>(between), &info, kOptions) < 0 && errno == EINTR) {
  }
  pid_t pid = note.Read();
  // Somebody has killed it in between. A child that it may have forked finds its gate closed, and ends.
  return pid == 0 ? -EAGAIN : pid;
}

bool WaitAtGate(int fd) {
  for (;;) {
    pollfd gate = {fd, POLLIN, 0};
    char byte;
    if (poll(&gate, 1, -1) < 0 && errno != EINTR) return false;
    ssize_t count = read(fd, &byte, 1);
    if (count >= 0) return count == 1;
    if (errno != EINTR && errno != EAGAIN) return false;
  }
}

int PinDetached([[maybe_unused]] pid_t pid) {
#if defined(__linux__)
  if (PretendMissing("pidfd_open")) return -ENOSYS;
  auto pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  return pidfd < 0 ? -errno : pidfd;
#else
  return -ENOSYS;
#endif
}

void OpenGate(int fd) {
  char byte = 1;
#if !defined(MSG_NOSIGNAL)
  constexpr int MSG_NOSIGNAL = 0;  // the socket was told not to (descriptors.cc)
#endif
  while (send(fd, &byte, 1, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

}  // namespace forkbeard
