// The shim: one small process beside each supervised service. It starts the service, is told of its end and of that of
// everything that came of it, holds its lock and record for exactly that long, and outlives the supervisor: to end the
// service with it (coupled), or to keep it and how it ended for a supervisor that comes back (independent).
//
// It decides nothing else. When to stop, with which signals and whether to start again is the supervisor's.
#pragma once

#include <poll.h>

#include <cstdint>
#include <string>
#include <vector>

#include "shim/allowance.h"
#include "shim/plan.h"
#include "shim/traces.h"
#include "shim/tree.h"
#include "shim/wire.h"

namespace forkbeard::shim {

class Shim {
 public:
  // `control` is connected to the supervisor; `signals` has a byte for each signal that came, or is the negative errno
  // that says why there is no such thing.
  Shim(Fd control, int signals)
      : wire_(std::move(control)), signals_(signals < 0 ? -1 : signals), signals_error_(signals) {}

  // Until there is nothing left to do. Returns the exit code.
  int Run();

 private:
  // Output of the service that goes over the wire; what nobody hears is kept, the last of it.
  struct Relay {
    int target;
    Fd fd;
    std::string unheard;
  };

  bool Turn();
  void OnSignals();
  void OnWire(short events);
  void OnConnection();
  void OnOutput(Relay* relay, bool is_last = false);
  void OnFrame(const Frame& frame);
  void OnTime();

  void Start(const std::string& body);
  bool Refuse(const Refusal& refusal);
  void TellRefusal(const Refusal& refusal);
  int OpenDoor();
  void RestoreTraces();
  int RestoreDoor();
  void LookAtTree();
  bool MustLook() const;
  void HoldUp(int64_t ms);
  void Abandoned();
  void Begin(std::vector<Step> steps);
  void TakeStep();
  void Deliver(const Frame& frame);
  void Leave();

  void Tell(const std::string& event, const std::string& fields);
  void TellState();
  int Timeout() const;

  Wire wire_;
  Fd signals_;
  int signals_error_;
  Fd listener_;
  Place door_;
  std::vector<Relay> relays_;
  // The sockets that an independent service was given, for a supervisor that comes back.
  std::vector<Fd> given_;
  Plan plan_;
  Tree tree_;
  Lock lock_;
  Record record_;
  bool planned_ = false;
  bool told_end_ = false;
  bool told_stopped_ = false;
  bool told_empty_ = false;
  int told_unseen_ = 0;
  bool abandoned_ = false;
  bool leaving_ = false;
  bool ready_ = false;
  pid_t service_ = 0;
  int64_t birth_ = -1;
  pid_t parent_ = 0;
  std::vector<Step> steps_;
  size_t step_ = 0;
  int64_t step_due_ = -1;
  int64_t lease_due_ = -1;
  Allowance allowance_;
  // Its output is not read before this.
  int64_t held_until_ = -1;
  // Since it was last held up for having said too much, it has not been for a while then.
  int64_t calm_due_ = -1;
  int64_t held_ = 0;
  bool is_flooding_ = false;
};

}  // namespace forkbeard::shim
