// What the lifeline needs of V8, as plain function pointers: forkbeard_v8.node, which knows V8, hands them through
// JavaScript to forkbeard.node, which knows threads and descriptors. `isolate` is V8's object, and nobody looks into it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace forkbeard {

struct InterruptHooks {
  static constexpr uint64_t kMagic = 0x6c69666562656172;
  uint64_t magic;
  uint32_t size;

  // The isolate of the calling thread.
  void* (*current)();
  // From any thread: the isolate's own thread calls `callback(data)` when its JavaScript next looks up, which loops,
  // calls and regular expressions do.
  void (*request)(void* isolate, void (*callback)(void* data), void* data);
  // By the isolate's own thread, within such a call: the JavaScript stack as UTF-8, as much as there is room for. How
  // many bytes were written.
  size_t (*stack)(void* isolate, char* out, size_t room);
  // `callback(data)` when the heap is about to reach its limit, by the isolate's own thread, which must not allocate
  // then. One at a time; null ends it.
  void (*watch_heap)(void* isolate, void (*callback)(void* data), void* data);
};

}  // namespace forkbeard
