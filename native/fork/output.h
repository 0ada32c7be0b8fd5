// The last of what a forked child has to say on stdout or stderr. It ends without another turn of its loop, and what the
// reader of a pipe had no room for is in libuv's queue still, or in JavaScript's. Called by fork.cc.
#pragma once

#include <uv.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace forkbeard {

// The same numbers in lib/process/native-fork.ts.
enum class OutputKind : uint8_t { kNone = 0, kFile = 1, kStream = 2 };

// Whether there can be a stream of Node's for `fd` (1 or 2): one of libuv's is there, or it is a file, which libuv has
// none for. To look at Node's would make it.
OutputKind KindOfOutput(uv_loop_t* loop, int fd);

// Writes what libuv has queued for the stream on `fd` (1 or 2), and then `rest`. Waits for a reader that goes on reading,
// until `deadline` (as uv_hrtime counts), and for one that does not `patience` nanoseconds. How many bytes were not
// written though somebody might have read them: none when the reader is gone. Nothing stays queued.
size_t FinishOutput(uv_loop_t* loop, int fd, std::span<const uint8_t> rest, uint64_t patience,
                    uint64_t deadline);

}  // namespace forkbeard
