// A stand-in for the BSDs' <sys/event.h>, for tests on Linux: native/poller/kqueue.cc is compiled against it and runs on
// emulation.cc. The numbers are FreeBSD's. What is not named here (EVFILT_VNODE, EVFILT_AIO, NOTE_TRACK) is not emulated.
#pragma once

#include <stdint.h>
#include <time.h>

#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_PROC (-5)
#define EVFILT_SIGNAL (-6)
#define EVFILT_TIMER (-7)
#define EVFILT_USER (-11)

#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_ENABLE 0x0004
#define EV_DISABLE 0x0008
#define EV_ONESHOT 0x0010
#define EV_CLEAR 0x0020
#define EV_RECEIPT 0x0040
#define EV_DISPATCH 0x0080
#define EV_SYSFLAGS 0xf000
#define EV_ERROR 0x4000
#define EV_EOF 0x8000

// EVFILT_READ, EVFILT_WRITE: `data` is a low-water mark. Sockets look at it, pipes do not (as on FreeBSD).
#define NOTE_LOWAT 0x00000001

// EVFILT_PROC: the wait status is in `data`.
#define NOTE_EXIT 0x80000000u

// EVFILT_TIMER: the unit of `data`, milliseconds without one.
#define NOTE_SECONDS 0x00000001
#define NOTE_MSECONDS 0x00000002
#define NOTE_USECONDS 0x00000004
#define NOTE_NSECONDS 0x00000008
#define NOTE_ABSTIME 0x00000010

// EVFILT_USER
#define NOTE_FFNOP 0x00000000u
#define NOTE_FFAND 0x40000000u
#define NOTE_FFOR 0x80000000u
#define NOTE_FFCOPY 0xc0000000u
#define NOTE_FFCTRLMASK 0xc0000000u
#define NOTE_FFLAGSMASK 0x00ffffffu
#define NOTE_TRIGGER 0x01000000u

struct kevent {
  uintptr_t ident;
  int16_t filter;
  uint16_t flags;
  uint32_t fflags;
  int64_t data;
  void* udata;
};

#define EV_SET(event, ident_, filter_, flags_, fflags_, data_, udata_) \
  do {                                                                 \
    struct kevent* const event_ = (event);                             \
    event_->ident = (ident_);                                          \
    event_->filter = static_cast<int16_t>(filter_);                    \
    event_->flags = static_cast<uint16_t>(flags_);                     \
    event_->fflags = (fflags_);                                        \
    event_->data = (data_);                                            \
    event_->udata = (udata_);                                          \
  } while (0)

extern "C" {
int kqueue(void);
int kevent(int fd, const struct kevent* changes, int change_count, struct kevent* events, int event_count,
           const struct timespec* timeout);
}
