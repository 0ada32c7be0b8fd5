#include "math_random.h"

#include <cstring>

namespace forkbeard {

namespace {

// A native context is an array of slots. Among them, one after the other (V8's contexts.h, NATIVE_CONTEXT_FIELDS):
// MATH_RANDOM_INDEX, a small integer that counts down; MATH_RANDOM_STATE, an array of 16 bytes; MATH_RANDOM_CACHE, an
// array of 64 doubles. An array is its map, its length, its elements.
constexpr size_t kHeader = 2;  // of a context: map, length
constexpr size_t kMostSlots = 600;
constexpr int64_t kCached = 64;
constexpr size_t kElements = 16;  // where they begin, in bytes

using Word = uintptr_t;

bool IsSmall(Word word) { return (word & 0xffffffff) == 0; }
int64_t Small(Word word) { return static_cast<int64_t>(word) >> 32; }
bool IsPointer(Word word) { return (word & 3) == 1; }

template <class T>
T Field(Word object, size_t offset) {
  T value;
  memcpy(&value, reinterpret_cast<const char*>(object - 1) + offset, sizeof value);
  return value;
}

struct Slots {
  Word context;

  Word At(size_t slot) const { return Field<Word>(context, (kHeader + slot) * sizeof(Word)); }
  Word Array(size_t slot, int64_t length) const {
    Word array = At(slot);
    if (!IsPointer(array)) return 0;
    Word found = Field<Word>(array, sizeof(Word));
    return IsSmall(found) && Small(found) == length ? array : 0;
  }
};

// A Local points to where V8 keeps the object's address up to date.
Word AddressOf(v8::Local<v8::Context> context) {
  const Word* handle;
  static_assert(sizeof handle == sizeof context);
  memcpy(static_cast<void*>(&handle), static_cast<const void*>(&context), sizeof handle);
  return *handle;
}

bool Draw(v8::Local<v8::Context> context, v8::Local<v8::Function> random, double* out) {
  v8::Local<v8::Value> value;
  if (!random->Call(context, v8::Undefined(v8::Isolate::GetCurrent()), 0, nullptr).ToLocal(&value))
    return false;
  if (!value->IsNumber()) return false;
  *out = value.As<v8::Number>()->Value();
  return true;
}

}  // namespace

bool ReseedMathRandom(v8::Local<v8::Context> context, v8::Local<v8::Function> random,
                      const uint64_t seed[2]) {
#if defined(V8_COMPRESS_POINTERS) || !(defined(__x86_64__) || defined(__aarch64__))
  return false;
#else
  double first, second;
  // The first one fills the cache if there is none; with an empty one at its end the next would, so three are drawn.
  if (!Draw(context, random, &first)) return false;
  Slots slots = {AddressOf(context)};
  Word length = Field<Word>(slots.context, sizeof(Word));
  if (!IsPointer(slots.context) || !IsSmall(length)) return false;
  size_t count =
      Small(length) < static_cast<int64_t>(kMostSlots) ? static_cast<size_t>(Small(length)) : kMostSlots;
  size_t found = 0;
  for (size_t slot = 0; slot + 2 < count; slot++) {
    Word index = slots.At(slot);
    if (!IsSmall(index) || Small(index) < 0 || Small(index) >= kCached) continue;
    if (slots.Array(slot + 1, 16) == 0 || slots.Array(slot + 2, kCached) == 0) continue;
    // What was drawn last stands where the index points.
    if (Field<double>(slots.Array(slot + 2, kCached), kElements + 8 * Small(index)) != first) continue;
    if (found != 0) return false;
    found = slot;
  }
  if (found == 0) return false;
  int64_t before = Small(slots.At(found));
  if (!Draw(context, random, &second)) return false;
  // Calling may have moved what we look at: read all of it again.
  slots.context = AddressOf(context);
  int64_t after = Small(slots.At(found));
  Word state = slots.Array(found + 1, 16);
  Word cache = slots.Array(found + 2, kCached);
  if (state == 0 || cache == 0 || after != (before == 0 ? kCached - 1 : before - 1)) return false;
  if (Field<double>(cache, kElements + 8 * after) != second) return false;

  memcpy(reinterpret_cast<char*>(state - 1) + kElements, seed, 16);
  // An empty cache: the next one draws from the state.
  Word none = 0;
  memcpy(reinterpret_cast<char*>(slots.context - 1) + (kHeader + found) * sizeof(Word), &none, sizeof none);
  return true;
#endif
}

}  // namespace forkbeard
