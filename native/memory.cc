#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <limits>

#if defined(__linux__)
#include <sys/syscall.h>
#endif

#include "fd.h"
#include "js.h"
#include "pretend.h"

namespace forkbeard {

namespace {

#if defined(__linux__)
// Older headers than kernels.
constexpr unsigned kCloseOnExec = 1;   // MFD_CLOEXEC
constexpr unsigned kAllowSealing = 2;  // MFD_ALLOW_SEALING
constexpr int kAddSeals = 1033;        // F_ADD_SEALS
constexpr int kSealShrink = 2;         // F_SEAL_SHRINK
#endif

// Nobody can make it smaller under a mapping any more, where the kernel can promise that.
void Seal([[maybe_unused]] int fd) {
#if defined(__linux__)
  fcntl(fd, kAddSeals, kSealShrink);
#endif
}

int MakeMemfd() {
#if defined(__linux__)
  if (PretendMissing("memfd")) return -ENOSYS;
  auto fd = static_cast<int>(syscall(SYS_memfd_create, "forkbeard", kCloseOnExec | kAllowSealing));
  return fd < 0 ? -errno : fd;
#else
  return -ENOSYS;
#endif
}

// Whatever its name was, it is gone when this returns.
int MakeUnnamed() {
  if (!PretendMissing("shm_open")) {
    static int count = 0;
    char name[64];
    // macOS allows 31 characters.
    snprintf(name, sizeof name, "/forkbeard-%d-%d", getpid(),
             __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED));
    // Close-on-exec by definition (shm_open(3)).
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd >= 0) {
      shm_unlink(name);
      return fd;
    }
    if (errno == EMFILE || errno == ENFILE) return -errno;
  }
  const char* folder = getenv("TMPDIR");
  char path[1024];
  int length = snprintf(path, sizeof path, "%s/forkbeard-XXXXXX",
                        folder == nullptr || *folder == '\0' ? "/tmp" : folder);
  if (length >= static_cast<int>(sizeof path)) return -ENAMETOOLONG;
  int fd = mkostemp(path, O_CLOEXEC);
  if (fd < 0) return -errno;
  unlink(path);
  return fd;
}

// 0 or a negative errno. Of a memfd the pages come with the first touch; a file of a file system that has its own limit
// gets its room now, because to be without it at the first touch would be fatal.
int Grow(int fd, off_t bytes, bool reserve) {
  if (ftruncate(fd, bytes) < 0) return -errno;
#if !defined(__APPLE__) && !defined(__OpenBSD__)
  if (reserve) {
    int error = posix_fallocate(fd, 0, bytes);
    // Where the file system cannot, nothing is lost but the early answer.
    if (error != 0 && error != EOPNOTSUPP && error != EINVAL) return -error;
  }
#endif
  return 0;
}

bool ReadSize(double value, size_t* out) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 2;
  if (!(value >= 1 && value <= static_cast<double>(kMost))) return false;
  *out = static_cast<size_t>(value);
  return static_cast<double>(*out) == value;
}

// create(bytes): a descriptor, close-on-exec, or a negative errno.
napi_value Create(napi_env env, napi_callback_info info) {
  js::Call<1> call(env, info);
  double value;
  size_t bytes;
  if (!call.Number(0, &value) || !ReadSize(value, &bytes)) return js::Int(env, -EINVAL);
  int made = MakeMemfd();
  bool reserve = made < 0;
  if (made == -ENOSYS || made == -EPERM || made == -EACCES) made = MakeUnnamed();
  if (made < 0) return js::Int(env, made);
  Fd fd(made);
  if (int error = Grow(made, static_cast<off_t>(bytes), reserve); error < 0) return js::Int(env, error);
  Seal(made);
  return js::Int(env, fd.Release());
}

// map(fd, bytes): an ArrayBuffer, or a negative errno.
napi_value Map(napi_env env, napi_callback_info info) {
  js::Call<2> call(env, info);
  int32_t fd;
  double value;
  size_t bytes;
  if (!call.Int(0, &fd) || fd < 0 || !call.Number(1, &value) || !ReadSize(value, &bytes)) {
    return js::Int(env, -EINVAL);
  }
  int error = 0;
  void* address = MapShared(fd, bytes, &error);
  if (address == nullptr) return js::Int(env, error);
  napi_value buffer = nullptr;
  auto unmap = [](napi_env, void* data, void* hint) { UnmapShared(data, reinterpret_cast<size_t>(hint)); };
  napi_status status =
      napi_create_external_arraybuffer(env, address, bytes, unmap, reinterpret_cast<void*>(bytes), &buffer);
  if (status == napi_ok) return buffer;
  // An engine whose heap is a sandbox takes no memory from outside (Electron).
  if (status == napi_no_external_buffers_allowed) {
    UnmapShared(address, bytes);
    return js::Int(env, -ENOTSUP);
  }
  napi_value ignored;
  napi_get_and_clear_last_exception(env, &ignored);
  return js::Int(env, -ENOMEM);
}

}  // namespace

void* MapShared(int fd, size_t bytes, int* error) {
  struct stat status = {};
  if (fstat(fd, &status) < 0) {
    *error = -errno;
    return nullptr;
  }
  // A memfd and what shm_open makes are files to fstat, except on macOS, where the latter have no type.
  bool is_memory = S_ISREG(status.st_mode) || (status.st_mode & S_IFMT) == 0;
  if (!is_memory || status.st_size < 0 || static_cast<uint64_t>(status.st_size) < bytes) {
    *error = is_memory ? -EOVERFLOW : -ENODEV;
    return nullptr;
  }
  Seal(fd);
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) {
    *error = -errno;
    return nullptr;
  }
  return address;
}

void UnmapShared(void* address, size_t bytes) { munmap(address, bytes); }

napi_value MakeMemoryExports(napi_env env) {
  napi_value exports = js::Object(env);
  js::SetFunction(env, exports, "create", Create);
  js::SetFunction(env, exports, "map", Map);
  return exports;
}

}  // namespace forkbeard
