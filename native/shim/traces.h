// What a running service leaves in the state directory: a lock that is held for as long as anything of it runs, and a
// record of which processes they are. The record is there before the program runs and goes when the last of its
// processes has been seen to end; the lock goes after it. Neither is inherited by the service.
#pragma once

#include <sys/types.h>

#include <string>

#include "fd.h"

namespace forkbeard::shim {

class Lock {
 public:
  // 0, -EWOULDBLOCK when another holds it, or another negative errno.
  int Take(const std::string& path);
  void Release() { fd_.Reset(); }

 private:
  Fd fd_;
};

class Record {
 public:
  // `head` is a JSON object without its end. 0 or a negative errno.
  int Write(const std::string& path, const std::string& head, pid_t service);
  void Remove();

 private:
  std::string path_;
};

}  // namespace forkbeard::shim
