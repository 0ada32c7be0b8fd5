// Node's V8 platform, redirected: what V8 posts to worker threads goes to a WorkerPool of ours. V8 reaches the platform
// through virtual calls only, so the object gets a copy of its vtable with a few slots exchanged; the slots are found
// by pointers to members, from the public headers of this Node. Once a process, for all isolates; undone when Node
// destroys the platform.
#pragma once

#include <v8.h>

#include <cstdint>

namespace forkbeard {

class WorkerPool;

enum class Redirection { kUntried, kInstalled, kRefused };

// The first call installs and tests it, from whichever thread; the later ones answer what came of that. kRefused when
// anything is not as expected: Node is as it was then.
Redirection RedirectPlatform(v8::Isolate* isolate);

// The pool of an installed redirection, else null.
WorkerPool* RedirectedPool();

// Keeps Node's own worker threads, which may still have work from before our time, inside a task of ours, so that none
// of them holds anything. False when one did not come within `limit` nanoseconds.
bool HoldNodeThreads(int64_t limit);
void ReleaseNodeThreads();
// They do not exist in a child.
void ForgetNodeThreads();

// Has Node run what V8 has queued for the thread of this isolate.
void WakeForegroundTasks(v8::Isolate* isolate);

// Any address within the program or library that V8 is a part of.
const void* AddressInNode();

}  // namespace forkbeard
