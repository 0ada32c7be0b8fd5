#include "interrupts.h"

#include <v8.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>

namespace forkbeard {

namespace {

constexpr int kFrames = 64;

// Text that stops where the room ends, between two characters.
class Text {
 public:
  Text(char* out, size_t room) : out_(out), room_(room) {}
  void Add(std::string_view part) {
    size_t fits = part.size() < room_ - size_ ? part.size() : room_ - size_;
    if (fits < part.size()) {
      // No part of a character: its later bytes are 10xxxxxx.
      while (fits > 0 && (static_cast<unsigned char>(part[fits]) & 0xc0) == 0x80) fits--;
      room_ = size_ + fits;
    }
    std::memcpy(out_ + size_, part.data(), fits);
    size_ += fits;
  }
  void Add(int number) {
    char digits[16];
    snprintf(digits, sizeof digits, "%d", number);
    Add(digits);
  }
  void Add(v8::Isolate* isolate, v8::Local<v8::String> string) {
    v8::String::Utf8Value value(isolate, string);
    if (*value != nullptr) Add(std::string_view(*value, static_cast<size_t>(value.length())));
  }
  bool full() const { return size_ == room_; }
  size_t size() const { return size_; }

 private:
  char* const out_;
  size_t room_;
  size_t size_ = 0;
};

void* Current() { return v8::Isolate::GetCurrent(); }

struct Call {
  void (*callback)(void* data);
  void* data;
};

void Request(void* isolate, void (*callback)(void* data), void* data) {
  auto run = [](v8::Isolate*, void* raw) {
    std::unique_ptr<Call> call(static_cast<Call*>(raw));
    call->callback(call->data);
  };
  static_cast<v8::Isolate*>(isolate)->RequestInterrupt(run, new Call{callback, data});
}

size_t Stack(void* raw, char* out, size_t room) {
  auto* isolate = static_cast<v8::Isolate*>(raw);
  v8::HandleScope scope(isolate);
  Text text(out, room);
  v8::Local<v8::StackTrace> trace =
      v8::StackTrace::CurrentStackTrace(isolate, kFrames, v8::StackTrace::kDetailed);
  for (int i = 0; i < trace->GetFrameCount() && !text.full(); i++) {
    v8::Local<v8::StackFrame> frame = trace->GetFrame(isolate, static_cast<uint32_t>(i));
    v8::Local<v8::String> function = frame->GetFunctionName();
    v8::Local<v8::String> script = frame->GetScriptNameOrSourceURL();
    bool named = !function.IsEmpty() && function->Length() > 0;
    text.Add(i == 0 ? "    at " : "\n    at ");
    if (named) {
      text.Add(isolate, function);
      text.Add(" (");
    }
    if (script.IsEmpty() || script->Length() == 0) {
      text.Add("<anonymous>");
    } else {
      text.Add(isolate, script);
    }
    text.Add(":");
    text.Add(frame->GetLineNumber());
    text.Add(":");
    text.Add(frame->GetColumn());
    if (named) text.Add(")");
  }
  return text.size();
}

// V8 knows the callback by its address and wants to hear of it once (api.cc, AddNearHeapLimitCallback).
Call heap_watch = {nullptr, nullptr};
bool heap_watched = false;

size_t NearHeapLimit(void*, size_t current, size_t) {
  if (heap_watch.callback != nullptr) heap_watch.callback(heap_watch.data);
  // No more room: it is not ours to decide.
  return current;
}

void WatchHeap(void* raw, void (*callback)(void* data), void* data) {
  auto* isolate = static_cast<v8::Isolate*>(raw);
  heap_watch = {callback, data};
  if ((callback != nullptr) == heap_watched) return;
  heap_watched = callback != nullptr;
  if (heap_watched) {
    isolate->AddNearHeapLimitCallback(NearHeapLimit, nullptr);
  } else {
    isolate->RemoveNearHeapLimitCallback(NearHeapLimit, 0);
  }
}

}  // namespace

InterruptHooks interrupt_hooks = {
    InterruptHooks::kMagic, sizeof(InterruptHooks), Current, Request, Stack, WatchHeap};

}  // namespace forkbeard
