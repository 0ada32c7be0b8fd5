// Signals of this process, told to every loop that watches them. One SA_SIGINFO | SA_RESTART handler a signal notes
// what came for each loop and wakes it; JavaScript finds the notes in its loop's next round. It runs beside libuv: a
// quiet libuv handle per watched signal (the keeper) makes libuv keep its own handler registered, whatever
// `process.on` and child_process come and go, and ours calls libuv's. When the last watcher goes, the disposition
// that was found is back.
//
// signals/delivery.h: what is noted. subscription.h: the notes of a loop. handler.h: the handler and its disposition.
// environment.h: libuv's handles. signals.cc: what JavaScript sees.
#pragma once

#include <node_api.h>

namespace forkbeard {

class Poller;

napi_value MakeSignalExports(napi_env env);

// After the watchers of a loop were told, and before it sleeps: libuv hears of what its handler has not been told yet.
// Costs next to nothing when that is nothing.
void SignalsPassOn();

// Before a poller is destroyed: no handler touches it any more when this returns.
void SignalsPollerGone(Poller* poller);

// In a forked child, after uv_loop_fork and best with all signals blocked: forgets what was pending and who watched,
// and takes our handlers out (libuv's own stay, for the listeners of `process.on`). Watching again starts anew.
void SignalsForked();

}  // namespace forkbeard
