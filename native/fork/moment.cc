#include "fork/moment.h"

#include <errno.h>

#include <utility>

#include "js.h"

namespace forkbeard {

namespace {

// Turns of Node's loop that we wait for one without immediates, before these are silenced in the child instead.
constexpr int kQuietTurns = 32;

}  // namespace

ForkMoment::ForkMoment(Forks* forks, ForkRequest request, uint64_t deadline)
    : forks_(forks), request_(std::move(request)), deadline_(deadline) {}

ForkMoment::~ForkMoment() {
  napi_delete_reference(forks_->env, quiet_);
  napi_delete_reference(forks_->env, done_);
  napi_async_destroy(forks_->env, context_);
}

int ForkMoment::Start(napi_value quiet, napi_value done) {
  napi_env env = forks_->env;
  napi_value name, resource;
  napi_create_string_utf8(env, "FORKBEARD_FORK", NAPI_AUTO_LENGTH, &name);
  napi_create_object(env, &resource);
  if (napi_async_init(env, resource, name, &context_) != napi_ok) return -ENOMEM;
  napi_create_reference(env, quiet, 1, &quiet_);
  napi_create_reference(env, done, 1, &done_);
  uv_idle_init(forks_->loop, &idle_);
  idle_.data = this;
  forks_->waiting.push_back(this);
  uv_idle_start(&idle_, [](uv_idle_t* handle) { static_cast<ForkMoment*>(handle->data)->Turn(); });
  return 0;
}

void ForkMoment::Turn() {
  napi_env env = forks_->env;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  bool late = uv_hrtime() >= deadline_;
  turns_++;
  Calm calm = LookAround();
  ForkOutcome outcome;
  outcome.pid = calm == Calm::kNever ? -ECANCELED : -EBUSY;
  // Immediates and closing handles come every turn in a busy process, and can be silenced; the rest cannot.
  bool enough = turns_ > kQuietTurns || late;
  if (calm == Calm::kQuiet || (calm == Calm::kSilenceable && enough)) outcome = ForkHere(forks_, request_);
  if (outcome.pid == -EBUSY && !late) {
    napi_close_handle_scope(env, scope);
    return;
  }
  // Whatever it fails with: the try before may have left V8's threads asked to rest.
  if (outcome.pid < 0) forks_->hooks->abandon();
  bool child = outcome.pid == 0;
  Stop();
  Tell(std::move(outcome));
  napi_close_handle_scope(env, scope);
  Close();
  if (child) forks_->hooks->settle();
}

ForkMoment::Calm ForkMoment::LookAround() {
  napi_value global, quiet, answer;
  int32_t calm = 0;
  napi_get_global(forks_->env, &global);
  napi_get_reference_value(forks_->env, quiet_, &quiet);
  if (napi_call_function(forks_->env, global, quiet, 0, nullptr, &answer) != napi_ok) {
    napi_value error;
    napi_get_and_clear_last_exception(forks_->env, &error);
    return Calm::kNotYet;
  }
  napi_get_value_int32(forks_->env, answer, &calm);
  auto said = static_cast<Calm>(calm);
  if (said == Calm::kQuiet && forks_->loop->closing_handles != nullptr) return Calm::kSilenceable;
  return said;
}

void ForkMoment::Tell(ForkOutcome outcome) {
  napi_env env = forks_->env;
  napi_value global, done;
  napi_get_global(env, &global);
  napi_get_reference_value(env, done_, &done);
  napi_value arguments[] = {js::Int(env, outcome.pid), js::Int(env, outcome.report.Release()),
                            js::Int(env, outcome.pidfd.Release())};
  napi_status status = napi_make_callback(env, context_, global, done, 3, arguments, nullptr);
  if (status != napi_pending_exception) return;
  napi_value error;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

// For good; deletes itself when libuv is through with the handle.
void ForkMoment::Close() {
  std::erase(forks_->waiting, this);
  if (closing_) return;
  closing_ = true;
  uv_close(reinterpret_cast<uv_handle_t*>(&idle_),
           [](uv_handle_t* handle) { delete static_cast<ForkMoment*>(handle->data); });
}

void StopWaiting(Forks* forks) {
  for (ForkMoment* moment : std::vector(forks->waiting)) moment->Stop();
  forks->waiting.clear();
}

}  // namespace forkbeard
