// What the addon keeps for one environment (the main thread, or one Worker). Nothing of an environment is static.
#pragma once

#include <node_api.h>

#include <memory>
#include <vector>

#include "sys/transfer.h"

namespace forkbeard {

class LoopHandle;

struct Addon {
  static Addon* Of(napi_env env) {
    void* addon = nullptr;
    napi_get_instance_data(env, &addon);
    return static_cast<Addon*>(addon);
  }

  std::vector<LoopHandle*> loops;
  std::vector<std::unique_ptr<sys::Transfers>> transfers;
};

}  // namespace forkbeard
