// V8's own memory, which Node has marked MADV_DONTFORK so that child_process need not copy its page tables
// (nodejs/node#48523): a forked child would have no JavaScript heap. Around our forks, and only then, it is copied.
// Memory that others have marked is left alone: a range is V8's when the program that V8 is a part of marked it. Those
// marks are followed as they are made; what was there before is read from /proc with the first fork.
#pragma once

namespace forkbeard {

// 0, or a negative errno: nothing can be known about the pages, and no fork can live. Once a process; the later calls
// answer what came of the first.
int FollowHeapPages();

// A child gets the pages, when V8's threads are at rest. From here to the call that follows no other thread can map or
// unmap memory of V8's. Or a negative errno, and nothing has changed.
int CopyHeapPages();
// In the parent, afterwards: forks leave them out again.
void LeaveHeapPagesOut();
// In the child, at once; and when it has time, the same for its own forks.
void HeapPagesInChild();
void SettleHeapPages();

}  // namespace forkbeard
