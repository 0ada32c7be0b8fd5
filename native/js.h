// Reading and writing JavaScript values from native callbacks. Every function is total: a value of the wrong type
// gives false (or the fallback) and never an exception; lib/ checks arguments and words the errors.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace forkbeard::js {

// The arguments of one call. N is how many the function takes; missing ones are undefined.
template <size_t N>
class Call {
 public:
  Call(napi_env environment, napi_callback_info info) : env(environment) {
    napi_get_cb_info(env, info, &count, args_, &self, &data);
  }
  napi_value operator[](size_t index) const { return args_[index]; }

  // A whole number; a fraction is none.
  bool Int(size_t index, int32_t* out) const {
    double value;
    if (!Number(index, &value)) return false;
    // NaN fails the comparison as well.
    if (!(value >= INT32_MIN && value <= INT32_MAX)) return false;
    *out = static_cast<int32_t>(value);
    return *out == value;
  }
  bool Uint(size_t index, uint32_t* out) const {
    double value;
    if (!Number(index, &value) || !(value >= 0 && value <= UINT32_MAX)) return false;
    *out = static_cast<uint32_t>(value);
    return true;
  }
  bool Number(size_t index, double* out) const {
    return napi_get_value_double(env, args_[index], out) == napi_ok;
  }
  bool Undefined(size_t index) const {
    napi_valuetype type;
    return napi_typeof(env, args_[index], &type) == napi_ok && type == napi_undefined;
  }
  bool Bool(size_t index, bool* out) const { return napi_get_value_bool(env, args_[index], out) == napi_ok; }
  // The bytes of a Uint8Array (Buffer included). They stay where they are as long as no JavaScript runs.
  bool Bytes(size_t index, std::span<uint8_t>* out) const {
    napi_typedarray_type type;
    size_t length;
    void* bytes;
    if (napi_get_typedarray_info(env, args_[index], &type, &length, &bytes, nullptr, nullptr) != napi_ok ||
        type != napi_uint8_array) {
      return false;
    }
    *out = {static_cast<uint8_t*>(bytes), bytes == nullptr ? 0 : length};
    return true;
  }

  // An Int32Array of at least `count` elements: where a call with several results writes them.
  bool Ints(size_t index, size_t count, std::span<int32_t>* out) const {
    napi_typedarray_type type;
    size_t length;
    void* data;
    if (napi_get_typedarray_info(env, args_[index], &type, &length, &data, nullptr, nullptr) != napi_ok ||
        type != napi_int32_array || length < count) {
      return false;
    }
    *out = {static_cast<int32_t*>(data), length};
    return true;
  }

  napi_env env;
  size_t count = N;  // as many as the caller gave, which may be more than N
  napi_value self = nullptr;
  void* data = nullptr;

 private:
  napi_value args_[N == 0 ? 1 : N];
};

inline napi_value Int(napi_env env, int32_t value) {
  napi_value result = nullptr;
  napi_create_int32(env, value, &result);
  return result;
}
inline napi_value Number(napi_env env, double value) {
  napi_value result = nullptr;
  napi_create_double(env, value, &result);
  return result;
}
inline napi_value Bool(napi_env env, bool value) {
  napi_value result = nullptr;
  napi_get_boolean(env, value, &result);
  return result;
}
inline napi_value Undefined(napi_env env) {
  napi_value result = nullptr;
  napi_get_undefined(env, &result);
  return result;
}
inline napi_value String(napi_env env, const char* text) {
  napi_value result = nullptr;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &result);
  return result;
}
inline napi_value Object(napi_env env) {
  napi_value result = nullptr;
  napi_create_object(env, &result);
  return result;
}
inline void Set(napi_env env, napi_value object, const char* name, napi_value value) {
  if (value != nullptr) napi_set_named_property(env, object, name, value);
}
inline void SetFunction(napi_env env, napi_value object, const char* name, napi_callback function,
                        void* data = nullptr) {
  napi_value value = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, function, data, &value) == napi_ok) {
    Set(env, object, name, value);
  }
}

}  // namespace forkbeard::js
