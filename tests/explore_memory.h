/* explore_memory.h: the parts of explore_memory.c that explore_hooks.c uses; see explore.h. */
#ifndef RINGBUS_TESTS_EXPLORE_MEMORY_H
#define RINGBUS_TESTS_EXPLORE_MEMORY_H

#include "explore.h"

bool ex_is_shared(const volatile void *at);
/* Private, or of no influence, or touched before the processes run: plain access. */
bool ex_is_quiet(const struct shm_word *w);
/* Offset in shared memory, for people. */
unsigned ex_offset(const volatile void *at);
uint64_t ex_plain_load(const struct shm_word *w);
void ex_plain_store(struct shm_word *w, uint64_t v);
/* As the model has it. data: plain data, see explore.h. */
uint64_t ex_load(const struct shm_word *w, bool acquire, bool data);
void ex_store(struct shm_word *w, uint64_t v, bool release, bool data);
bool ex_is_data(const struct shm_word *w);
/* The newest value, as an RMW gets it, and what it puts there. */
uint64_t ex_rmw_load(struct shm_word *w);
void ex_rmw_store(struct shm_word *w, uint64_t v);
/* A full fence of a process. */
void ex_fence_of(unsigned process);

#endif
