/* Spinlock. There is one kind only, because interrupts are off everywhere but in one window. */
#pragma once

#include <stdatomic.h>

#include "lib/types.h"

struct spinlock {
	_Atomic u32 taken;
};

static inline void spin_lock(struct spinlock *lock) {
	while (atomic_exchange_explicit(&lock->taken, 1, memory_order_acquire))
		while (atomic_load_explicit(&lock->taken, memory_order_relaxed))
			__builtin_ia32_pause();
}

static inline void spin_unlock(struct spinlock *lock) {
	atomic_store_explicit(&lock->taken, 0, memory_order_release);
}

static inline struct spinlock *spin_acquire(struct spinlock *lock) {
	spin_lock(lock);
	return lock;
}

static inline void spin_release(struct spinlock *const *lock) {
	if (*lock) spin_unlock(*lock);
}

#define SPIN_GUARD __attribute__((cleanup(spin_release), unused)) struct spinlock *const guard_

/* Takes the lock and holds it to the end of the block. */
#define spin_guard(lock) SPIN_GUARD = spin_acquire(lock)

/* The same of what panic() still uses: whoever holds the lock then may have been stopped. */
extern bool spin_panic;
#define spin_guard_unless_panic(lock) SPIN_GUARD = spin_panic ? NULL : spin_acquire(lock)

#ifdef ROOST_DEBUG
void lock_assert_failed(const char *what) __attribute__((noreturn));
#define lock_assert_held(lock)                                                   \
	do {                                                                     \
		if (!atomic_load_explicit(&(lock)->taken, memory_order_relaxed)) \
			lock_assert_failed(#lock);                               \
	} while (0)
#else
#define lock_assert_held(lock) ((void)0)
#endif
