#include "pretend.h"

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace forkbeard {

bool PretendMissing(const char* name) {
  // Read once: the environment may change under getenv.
  static const char* const kList = [] {
    const char* value = getenv("FORKBEARD_PRETEND_MISSING");
    return value == nullptr || *value == '\0' ? nullptr : strdup(value);
  }();
  if (kList == nullptr) return false;
  std::string_view rest = kList;
  while (!rest.empty()) {
    size_t comma = rest.find(',');
    if (rest.substr(0, comma) == name) return true;
    rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
  }
  return false;
}

}  // namespace forkbeard
