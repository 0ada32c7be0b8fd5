#include "shim/plan.h"

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace forkbeard::shim {
namespace {

constexpr int kMostSignals = 64;
constexpr size_t kSections = 8;
constexpr long long kMostSaid = 1ll << 40;

// The numbers of a section, copied: where they stand in the frame is no place for numbers.
template <typename Number>
bool Numbers(const std::string& section, std::vector<Number>* out) {
  if (section.size() % sizeof(Number) != 0) return false;
  out->resize(section.size() / sizeof(Number));
  if (!section.empty()) memcpy(out->data(), section.data(), section.size());
  return true;
}

bool Sections(const std::string& body, std::string (&out)[kSections]) {
  size_t at = 0;
  for (std::string& section : out) {
    uint32_t length;
    if (body.size() - at < sizeof length) return false;
    memcpy(&length, body.data() + at, sizeof length);
    at += sizeof length;
    if (body.size() - at < length) return false;
    section = body.substr(at, length);
    at += length;
  }
  return at == body.size();
}

bool ReadOption(std::string_view name, const char* value, Plan* plan) {
  if (name == "lock") {
    plan->lock = value;
  } else if (name == "record") {
    plan->record = value;
  } else if (name == "record-head") {
    plan->record_head = value;
  } else if (name == "independent") {
    plan->independent = strcmp(value, "1") == 0;
  } else if (name == "lease") {
    plan->lease = strtoll(value, nullptr, 10);
  } else if (name == "listener") {
    plan->listener = atoi(value);
  } else if (name == "listener-path") {
    plan->listener_path = value;
  } else if (name == "listener-made") {
    plan->listener_made = value;
  } else if (name == "run") {
    plan->run = value;
  } else if (name == "output") {
    char* at;
    plan->most_bytes = strtoll(value, &at, 10);
    plan->most_lines = strtoll(at, nullptr, 10);
    if (plan->most_bytes < 0 || plan->most_bytes > kMostSaid) return false;
    if (plan->most_lines < 0 || plan->most_lines > kMostSaid) return false;
  } else if (name == "orphaned") {
    char* at;
    long signal = strtol(value, &at, 10);
    long long wait = strtoll(at, nullptr, 10);
    if (signal <= 0 || signal > kMostSignals || wait < 0) return false;
    plan->orphaned.push_back({static_cast<int>(signal), wait});
  } else {
    return false;
  }
  return true;
}

}  // namespace

bool ReadPlan(const std::string& body, Plan* plan) {
  std::string sections[kSections];
  if (!Sections(body, sections)) return false;
  std::vector<double> settings;
  StringBlock options;
  if (!plan->arguments.Take(std::move(sections[0])) || !plan->environment.Take(std::move(sections[1])) ||
      !plan->candidates.Take(std::move(sections[2])) || !plan->directory.Take(std::move(sections[3])) ||
      !plan->paths.Take(std::move(sections[4])) || !Numbers(sections[5], &plan->rows) ||
      !Numbers(sections[6], &settings) || !options.Take(std::move(sections[7]))) {
    return false;
  }
  if (plan->arguments.size() == 0 || plan->candidates.size() == 0 || plan->rows.size() % kRow != 0 ||
      settings.size() < kFirstVariable || !ReadSettings(settings, &plan->spawn)) {
    return false;
  }
  for (size_t i = 0; i < options.size(); ++i) {
    const char* equals = strchr(options[i], '=');
    if (equals == nullptr) return false;
    if (!ReadOption({options[i], static_cast<size_t>(equals - options[i])}, equals + 1, plan)) return false;
  }
  plan->spawn.arguments = plan->arguments.row();
  plan->spawn.environment = plan->environment.row();
  plan->spawn.candidates = plan->candidates.row();
  plan->spawn.directory = plan->directory[0];
  // Its group is how it is told from everything else.
  return plan->spawn.group == SpawnGroup::kNew || plan->spawn.group == SpawnGroup::kSession;
}

bool ReadSteps(const std::string& body, std::vector<Step>* steps) {
  std::vector<int32_t> numbers;
  if (!Numbers(body, &numbers) || numbers.size() % 2 != 0) return false;
  steps->clear();
  for (size_t i = 0; i < numbers.size(); i += 2) {
    if (numbers[i] <= 0 || numbers[i] > kMostSignals || numbers[i + 1] < 0) return false;
    steps->push_back({numbers[i], numbers[i + 1]});
  }
  return true;
}

}  // namespace forkbeard::shim
