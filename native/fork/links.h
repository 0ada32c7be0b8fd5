// The lists of libuv's loop and handles, which it has no calls for. Their nodes are a pair of pointers in every version; in
// some a struct, in others an array. Used for what a forked child must not go on with.
#pragma once

#include <stddef.h>
#include <uv.h>

namespace forkbeard {

struct Links {
  Links* next;
  Links* previous;
};

// Takes a node out of the list that it is in, if any: one of its own is linked to itself.
template <class Node>
void Unlink(Node* node) {
  static_assert(sizeof(Links) == sizeof(Node));
  auto* links = reinterpret_cast<Links*>(node);
  links->next->previous = links->previous;
  links->previous->next = links->next;
  links->next = links->previous = links;
}

// `links` is in no list, `list` is the head of one.
inline void Append(Links* list, Links* links) {
  links->next = list;
  links->previous = list->previous;
  links->previous->next = links;
  list->previous = links;
}

// The request that stands in a stream's queue of writes.
inline uv_write_t* WriteOf(Links* links) {
  return reinterpret_cast<uv_write_t*>(reinterpret_cast<char*>(links) - offsetof(uv_write_t, queue));
}

template <class Node>
void EmptyList(Node* head) {
  auto* links = reinterpret_cast<Links*>(head);
  while (links->next != links) Unlink(links->next);
}

}  // namespace forkbeard
