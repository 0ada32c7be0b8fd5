// The signal filters of the emulation (emulation.cc), which calls these with its lock held.
#pragma once

// Every delivery adds one to the eventfd `event`. Returns a positive errno, as kevent's data has it, or 0.
int WatchSignal(int signal, int event);
void UnwatchSignal(int signal, int event);
// Takes back the dispositions that somebody has changed since.
void KeepSignals();
