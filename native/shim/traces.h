// What a running service leaves in the state directory: a lock that is held for as long as anything of it runs, and a
// record of which processes they are. The record is there before the program runs and goes when the last of its
// processes has been seen to end; the lock goes after it. Neither is inherited by the service.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "fd.h"

namespace forkbeard::shim {

// Which file it is, whatever stands at its path by now: whoever clears old files away may have taken it.
class Place {
 public:
  bool Read(const std::string& path);
  bool IsAt(const std::string& path) const;

 private:
  bool known_ = false;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

class Lock {
 public:
  // 0, -EWOULDBLOCK when another holds it, or another negative errno. One that is held already and is not at its path
  // any more is kept beside the new one.
  int Take(const std::string& path);
  void Release() { held_.clear(); }
  // Device and inode of the one that was taken last; empty when there is none.
  std::string name() const;

 private:
  std::vector<Fd> held_;
};

class Record {
 public:
  // `head` is a JSON object without its end. 0 or a negative errno. Also once more, of the same service.
  int Write(const std::string& path, const std::string& head, pid_t service);
  // Nothing when it is another's by now.
  void Remove();

 private:
  std::string path_;
  Place place_;
};

}  // namespace forkbeard::shim
