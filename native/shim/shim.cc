#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include <algorithm>
#include <cstring>

#include "descriptors.h"
#include "process_table.h"

namespace forkbeard::shim {
namespace {

// A supervisor that does not read for a while must not make us large, and the service waits as it would for any pipe.
constexpr size_t kMostUnsent = size_t{256} * 1024;
constexpr size_t kMostUnheard = size_t{64} * 1024;
// After a last SIGKILL: what the kernel cannot end now (it waits for a disk) it may end later.
constexpr int64_t kAgain = 5000;
// How often to look where nobody tells us of the end of orphans, or they could not be seen.
constexpr int kLook = 20;
// Without having been held up for so long, a service has stopped flooding.
constexpr int64_t kCalm = 1000;
constexpr int kDoorBacklog = 8;

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

std::string Field(const char* name, int64_t number) {
  std::string text = ",\"";
  text.append(name).append("\":").append(std::to_string(number));
  return text;
}

std::string List(const char* name, const std::vector<int32_t>& numbers) {
  std::string text = ",\"";
  text.append(name).append("\":[");
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(numbers[i]);
  }
  return text += ']';
}

struct Peer {
  uid_t uid;
  pid_t pid;  // 0 where the system does not tell
};

bool ReadPeer(int fd, Peer* out) {
#if defined(__linux__)
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return false;
  *out = {peer.uid, peer.pid};
#else
  gid_t gid;
  *out = {0, 0};
  if (getpeereid(fd, &out->uid, &gid) < 0) return false;
#if defined(LOCAL_PEERPID)
  socklen_t length = sizeof out->pid;
  if (getsockopt(fd, SOL_LOCAL, LOCAL_PEERPID, &out->pid, &length) < 0) out->pid = 0;
#endif
#endif
  return true;
}

// Only who could signal us anyway may tell us what to do.
bool IsOurs(int fd) {
  Peer peer;
  return ReadPeer(fd, &peer) && (peer.uid == geteuid() || peer.uid == 0);
}

// Where the service's input and output were: whoever waits for their end waits for the service, not for us.
void LetGoOfItsStreams() {
  Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = 0; fd <= 2; ++fd) {
    if (null) dup2(null.get(), fd);
  }
  // Nor do we keep anybody from unmounting where we were started.
  if (chdir("/") < 0) return;
}

}  // namespace

int Shim::Run() {
  parent_ = getppid();
  if (!signals_) {
    TellRefusal({signals_error_, static_cast<int>(SpawnStep::kPipe), -1, ""});
    return 1;
  }
  while (Turn()) {
  }
  return 0;
}

// ------------------------------------------------------------------------------------------------ one round

bool Shim::Turn() {
  std::vector<pollfd> fds;
  auto watch = [&](int fd, short events) {
    fds.push_back({fd, events, 0});
    return fds.size() - 1;
  };
  watch(signals_.get(), POLLIN);
  const size_t wire = watch(wire_.fd(), static_cast<short>(POLLIN | (wire_.unsent() > 0 ? POLLOUT : 0)));
  const size_t door = watch(listener_.get(), POLLIN);
  const bool full = wire_.unsent() > kMostUnsent;
  const size_t first = fds.size();
  const bool waits = full || held_until_ >= 0;
  for (Relay& relay : relays_) watch(waits ? -1 : relay.fd.get(), POLLIN);
  // A plan that comes in this round brings more, which were not asked yet.
  const size_t outputs = relays_.size();

  int ready = poll(fds.data(), static_cast<nfds_t>(fds.size()), Timeout());
  if (ready < 0 && errno != EINTR) {
    // The kernel has no memory now. We are all that the service has: later it may.
    const timespec pause = {0, int64_t{kLook} * 1000000};
    nanosleep(&pause, nullptr);
  }
  if (ready > 0) {
    // What the supervisor says comes before what the clock says: we may have been kept from listening.
    if (fds[wire].revents != 0) OnWire(fds[wire].revents);
    for (size_t i = 0; i < outputs; ++i) {
      if (fds[first + i].revents != 0) OnOutput(&relays_[i]);
    }
    if (fds[0].revents != 0) OnSignals();
    if (fds[door].revents != 0) OnConnection();
  }
  OnTime();
  return !leaving_ || (wire_.open() && wire_.unsent() > 0);
}

int Shim::Timeout() const {
  int64_t due = -1;
  for (int64_t one : {step_due_, lease_due_, held_until_, calm_due_}) {
    if (one >= 0 && (due < 0 || one < due)) due = one;
  }
  int timeout = due < 0 ? -1 : static_cast<int>(std::clamp<int64_t>(due - Now(), 0, 1 << 30));
  if (MustLook() && (timeout < 0 || timeout > kLook)) return kLook;
  return timeout;
}

bool Shim::MustLook() const {
  return tree_.ended() && !tree_.empty() && (!tree_.adopts() || tree_.unseen() < 0);
}

void Shim::OnTime() {
  if (MustLook()) LookAtTree();
  const int64_t now = Now();
  if (held_until_ >= 0 && now >= held_until_) {
    held_until_ = -1;
    if (is_flooding_) calm_due_ = now + kCalm;
  }
  if (calm_due_ >= 0 && now >= calm_due_) {
    calm_due_ = -1;
    is_flooding_ = false;
    Tell("calm", Field("held", held_));
  }
  if (step_due_ >= 0 && now >= step_due_) TakeStep();
  if (lease_due_ >= 0 && now >= lease_due_) {
    lease_due_ = -1;
    Tell("lease-over", "");
    wire_.Close();
    Abandoned();
  }
}

void Shim::OnSignals() {
  char buffer[64];
  bool terminate = false;
  for (ssize_t n; (n = read(signals_.get(), buffer, sizeof buffer)) > 0;) {
    for (ssize_t i = 0; i < n; ++i) terminate = terminate || buffer[i] == SIGTERM;
  }
  LookAtTree();
  // Somebody ends us instead of the service.
  if (terminate) Begin(plan_.orphaned);
  // The parent's end is a signal; so is that of the thread that started us, which means nothing.
  if (planned_ && !plan_.independent && getppid() != parent_) Abandoned();
}

void Shim::OnWire(short events) {
  if ((events & POLLOUT) != 0) wire_.Flush();
  const bool open = wire_.Receive();
  Frame frame;
  while (wire_.open() && wire_.Next(&frame)) OnFrame(frame);
  if (open) return;
  wire_.Close();
  if (!planned_ || !plan_.independent || leaving_) Abandoned();
}

void Shim::OnConnection() {
  const int accepted = AcceptConnection(listener_.get());
  // It stays there, and would be reported again at once.
  if (IsShortage(-accepted)) poll(nullptr, 0, kLook);
  Fd connection(accepted);
  if (!connection || !IsOurs(connection.get())) return;
  if (wire_.open()) {
    Wire other(std::move(connection));
    Peer owner;
    const pid_t pid = ReadPeer(wire_.fd(), &owner) ? owner.pid : 0;
    other.Send('J', "{\"event\":\"busy\"" + Field("pid", pid) + "}");
    return;
  }
  wire_ = Wire(std::move(connection));
  wire_.SendDescriptors(given_);
  TellState();
}

// `is_last`: it has ended, and what is there is all that there will be.
void Shim::OnOutput(Relay* relay, bool is_last) {
  char buffer[16384];
  // As much as a pipe holds, so that a chatty service does not keep us from everything else.
  for (int turn = 0; turn < 4 && relay->fd && (is_last || held_until_ < 0); ++turn) {
    ssize_t count = read(relay->fd.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (count <= 0) {
      relay->fd.Reset();
      return;
    }
    HoldUp(is_last ? 0 : allowance_.Take(buffer, static_cast<size_t>(count), Now()));
    std::string said(buffer, static_cast<size_t>(count));
    if (wire_.open()) {
      wire_.Send('O', static_cast<char>(relay->target) + said);
      continue;
    }
    relay->unheard += said;
    if (relay->unheard.size() > kMostUnheard) relay->unheard.erase(0, relay->unheard.size() - kMostUnheard);
  }
}

// It says more than it may. Told at the beginning and at the end, not each time.
void Shim::HoldUp(int64_t ms) {
  // What it says on its way out is heard: one that waits in a write(2) hears no signal.
  if (ms == 0 || step_due_ >= 0) return;
  held_until_ = Now() + ms;
  calm_due_ = -1;
  if (!is_flooding_) {
    is_flooding_ = true;
    held_ = 0;
    Tell("flooding", "");
  }
  held_ += ms;
}

// ---------------------------------------------------------------------------------------------- what is said

void Shim::OnFrame(const Frame& frame) {
  if (plan_.lease > 0 && lease_due_ >= 0) lease_due_ = Now() + plan_.lease;
  if (frame.kind == 'P' && !planned_) {
    Start(frame.body);
  } else if (frame.kind == 'K') {
    Deliver(frame);
  } else if (frame.kind == 'S') {
    std::vector<Step> steps;
    if (ReadSteps(frame.body, &steps)) Begin(std::move(steps));
  } else if (frame.kind == 'E') {
    int32_t wait;
    if (frame.body.size() != sizeof wait) return;
    memcpy(&wait, frame.body.data(), sizeof wait);
    if (step_due_ >= 0) step_due_ = std::max(step_due_, Now() + wait);
  } else if (frame.kind == 'R') {
    ready_ = true;
  } else if (frame.kind == 'T' && !leaving_) {
    RestoreTraces();
  } else if (frame.kind == 'D' && tree_.pid() == 0) {
    Leave();
  }
}

void Shim::Deliver(const Frame& frame) {
  int32_t numbers[2];
  if (frame.body.size() != sizeof numbers) return;
  memcpy(numbers, frame.body.data(), sizeof numbers);
  int error = numbers[1] == 0 ? tree_.SignalFirst(numbers[0]) : tree_.SignalAll(numbers[0]);
  Tell("delivered", Field("signal", numbers[0]) + Field("errno", error));
}

void Shim::Tell(const std::string& event, const std::string& fields) {
  wire_.Send('J', "{\"event\":\"" + event + "\"" + fields + "}");
}

// To a supervisor that comes back: all that it has missed.
void Shim::TellState() {
  Tell("started", Field("pid", service_) + Field("startTime", birth_) + Field("shim", getpid()) +
                      Field("adopts", tree_.adopts() ? 1 : 0) + Field("ready", ready_ ? 1 : 0) +
                      ",\"run\":\"" + plan_.run + "\",\"lock\":\"" + lock_.name() + "\"");
  for (Relay& relay : relays_) {
    if (!relay.unheard.empty()) wire_.Send('O', static_cast<char>(relay.target) + relay.unheard);
    relay.unheard.clear();
  }
  told_end_ = told_stopped_ = told_empty_ = is_flooding_ = false;
  told_unseen_ = 0;
  calm_due_ = -1;
  LookAtTree();
}

// ------------------------------------------------------------------------------------------------ its life

void Shim::Start(const std::string& body) {
  planned_ = true;
  Refusal refusal;
  if (!ReadPlan(body, &plan_)) {
    refusal = {-EINVAL, 0, -1, "plan"};
    if (Refuse(refusal)) return;
  }
#if defined(__linux__)
  // Beside the connection, of which something else may have a copy.
  if (!plan_.independent) prctl(PR_SET_PDEATHSIG, SIGHUP, 0, 0, 0);
#endif
  if (!plan_.lock.empty()) {
    refusal = {lock_.Take(plan_.lock), 0, -1, "lock"};
    if (Refuse(refusal)) return;
  }
  refusal = {CheckRows(plan_.rows, plan_.paths.size(), &refusal.fd), static_cast<int>(SpawnStep::kDescriptor),
             refusal.fd, ""};
  if (Refuse(refusal)) return;
  refusal = {ReadDescriptors(plan_.rows, plan_.paths, &plan_.spawn, &plan_.pipes),
             static_cast<int>(SpawnStep::kPipe), -1, ""};
  if (Refuse(refusal)) return;
  refusal = {OpenDoor(), 0, -1, "listener"};
  if (Refuse(refusal)) return;
  refusal = {tree_.Prepare(&plan_), static_cast<int>(SpawnStep::kFork), -1, ""};
  if (Refuse(refusal)) return;
  service_ = tree_.pid();
  ProcessRow row;
  if (ReadProcess(service_, &row)) {
    birth_ = row.birth;
  } else if (IsShortage(errno)) {
    refusal = {-errno, 0, -1, "record"};
  }
  if (refusal.error == 0 && !plan_.record.empty()) {
    refusal = {record_.Write(plan_.record, plan_.record_head, service_), 0, -1, "record"};
  }
  if (refusal.error < 0) tree_.Abandon();
  if (Refuse(refusal)) return;
  refusal = {};
  refusal.error = tree_.Release(&refusal);
  if (Refuse(refusal)) return;

  plan_.pipes.theirs.clear();
  for (size_t i = 0; i < plan_.pipes.ours.size(); ++i) {
    Fd& ours = plan_.pipes.ours[i];
    if (ours) relays_.push_back({plan_.rows[i * kRow], std::move(ours), {}});
  }
  for (size_t i = 0; i < plan_.rows.size(); i += kRow) {
    if (plan_.rows[i + 1] != kCopy || plan_.rows[i + 2] <= 2) continue;
    Fd given(plan_.rows[i + 2]);
    // Of a service that outlives its supervisor, whose clients wait in them while it is away.
    if (plan_.independent) given_.push_back(std::move(given));
  }
  allowance_.Set(plan_.most_bytes, plan_.most_lines, Now());
  LetGoOfItsStreams();
  if (plan_.lease > 0) lease_due_ = Now() + plan_.lease;
  TellState();
}

// Only with the lock: what is at that path now is nobody's any more.
int Shim::OpenDoor() {
  if (plan_.listener < 0) return 0;
  Fd door(plan_.listener);
  SetCloseOnExec(door.get(), true);
  SetNonBlocking(door.get(), true);
  // Once more, by us: who connects is told by the kernel that we are who listens, and not who bound it.
  if (listen(door.get(), kDoorBacklog) < 0) return -errno;
  if (!plan_.listener_made.empty()) {
    if (rename(plan_.listener_made.c_str(), plan_.listener_path.c_str()) < 0) {
      // Whoever had the lock before has tidied up; with the next start it is there.
      return errno == ENOENT ? -EAGAIN : -errno;
    }
    plan_.listener_made.clear();
  }
  listener_ = std::move(door);
  door_.Read(plan_.listener_path);
  return 0;
}

// Somebody has cleared the state directory away, or put another in its place. What others have there by now is theirs:
// the lock decides, and the one that we had is kept beside it.
void Shim::RestoreTraces() {
  if (plan_.lock.empty()) return;
  int error = lock_.Take(plan_.lock);
  if (error == 0 && tree_.pid() != 0 && !plan_.record.empty())
    error = record_.Write(plan_.record, plan_.record_head, service_);
  if (error == 0) error = RestoreDoor();
  Tell("restored", Field("errno", error) + ",\"lock\":\"" + lock_.name() + "\"");
}

int Shim::RestoreDoor() {
  const std::string& path = plan_.listener_path;
  if (!listener_ || path.empty() || door_.IsAt(path)) return 0;
  const std::string made = path + ".new";
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (made.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, made.c_str(), made.size());
  Fd door(socket(AF_UNIX, SOCK_STREAM, 0));
  if (!door) return -errno;
  SetCloseOnExec(door.get(), true);
  SetNonBlocking(door.get(), true);
  unlink(made.c_str());
  // For nobody else, not for a moment.
  const mode_t before = umask(0177);
  int error = bind(door.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ? -errno : 0;
  umask(before);
  if (error == 0 && listen(door.get(), kDoorBacklog) < 0) error = -errno;
  if (error == 0 && rename(made.c_str(), path.c_str()) < 0) error = -errno;
  if (error < 0) {
    unlink(made.c_str());
    return error;
  }
  listener_ = std::move(door);
  door_.Read(path);
  return 0;
}

// True when it is one: then there is nothing of the service, and soon nothing of us.
bool Shim::Refuse(const Refusal& refusal) {
  if (refusal.error == 0) return false;
  record_.Remove();
  if (!plan_.listener_made.empty()) unlink(plan_.listener_made.c_str());
  // Whoever hears of it may start it anew at once.
  Leave();
  TellRefusal(refusal);
  return true;
}

void Shim::TellRefusal(const Refusal& refusal) {
  Tell("refused", Field("errno", refusal.error) + Field("step", refusal.step) + Field("fd", refusal.fd) +
                      ",\"where\":\"" + refusal.where + "\"");
}

void Shim::LookAtTree() {
  if (service_ == 0) return;
  tree_.Reap();
  if (!tree_.ended() && tree_.stopped() != told_stopped_) {
    told_stopped_ = tree_.stopped();
    Tell(told_stopped_ ? "stopped" : "continued", "");
  }
  if (tree_.unseen() != told_unseen_) {
    told_unseen_ = tree_.unseen();
    Tell("unseen", Field("errno", told_unseen_));
  }
  if (tree_.ended() && !told_end_) {
    told_end_ = true;
    // Its last words come before its end.
    for (Relay& relay : relays_) OnOutput(&relay, true);
    Tell("exited", Field("status", tree_.status()) + List("left", tree_.Survivors()));
  }
  if (!tree_.empty()) {
    if (step_due_ >= 0) tree_.SignalArrivals();
    return;
  }
  step_due_ = -1;
  if (!told_empty_) {
    told_empty_ = true;
    for (Relay& relay : relays_) OnOutput(&relay, true);
    record_.Remove();
    if (!plan_.independent) lock_.Release();
    Tell("empty", "");
  }
  if (!plan_.independent || abandoned_) Leave();
}

// Nobody will tell us any more what to do.
void Shim::Abandoned() {
  if (abandoned_) return;
  abandoned_ = true;
  if (tree_.pid() == 0) {
    Leave();
  } else {
    Begin(plan_.orphaned);
  }
}

void Shim::Begin(std::vector<Step> steps) {
  if (tree_.pid() == 0 || steps.empty()) return;
  if (held_until_ >= 0) held_until_ = Now();
  steps_ = std::move(steps);
  step_ = 0;
  step_due_ = 0;
  TakeStep();
}

void Shim::TakeStep() {
  const int64_t now = Now();
  if (step_ < steps_.size()) {
    const Step step = steps_[step_++];
    const std::vector<int32_t> survivors = tree_.Survivors();
    step_due_ = now + step.wait;
    int error = tree_.SignalAll(step.signal);
    Tell("signalled", Field("signal", step.signal) + Field("errno", error) + List("to", survivors));
    LookAtTree();
    return;
  }
  Tell("stuck", List("left", tree_.Survivors()));
  const bool last = steps_.back().signal == SIGKILL;
  if (last) tree_.SignalAll(SIGKILL);
  step_due_ = last ? now + kAgain : -1;
}

void Shim::Leave() {
  leaving_ = true;
  if (listener_ && door_.IsAt(plan_.listener_path)) unlink(plan_.listener_path.c_str());
  listener_.Reset();
  given_.clear();
  lock_.Release();
}

}  // namespace forkbeard::shim
