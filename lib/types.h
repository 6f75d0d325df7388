/* Basic types shared by everything: fixed-width integers, addresses by level, attributes. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

typedef u64 hpa_t; /* host physical address, bytes */
typedef u64 pfn_t; /* host physical frame number (hpa >> 12) */
typedef u64 gpa_t; /* guest physical address, bytes */
typedef u64 gfn_t; /* guest frame number (gpa >> 12) */
typedef u64 gva_t; /* guest linear address */

#define PAGE_SHIFT			12
#define PAGE_SIZE			4096ul
#define PAGE_MASK			(~(PAGE_SIZE - 1))

#define KiB(n)				((u64)(n) << 10)
#define MiB(n)				((u64)(n) << 20)
#define GiB(n)				((u64)(n) << 30)

#define __must_check			__attribute__((warn_unused_result))
#define __packed			__attribute__((packed))
#define __aligned(n)			__attribute__((aligned(n)))
#define __noreturn			__attribute__((noreturn))
#define __noinline			__attribute__((noinline))
#define __unused			__attribute__((unused))
#define __format_printf(f, a)		__attribute__((format(printf, f, a)))

#define likely(x)			__builtin_expect(!!(x), 1)
#define unlikely(x)			__builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a)			(sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define BIT(n)				(1ul << (n))
#define GENMASK(hi, lo)			((~0ul >> (63 - (hi))) & (~0ul << (lo)))

static inline u64 min_u64(u64 a, u64 b) { return a < b ? a : b; }

static inline u64 max_u64(u64 a, u64 b) { return a > b ? a : b; }

/* align is a power of two. */
static inline u64 align_down(u64 value, u64 align) { return value & ~(align - 1); }

/* align is a power of two; wraps to 0 past 2^64, callers bound value first. */
static inline u64 align_up(u64 value, u64 align) { return (value + align - 1) & ~(align - 1); }

/* True when [base, base + len) lies in [0, limit) without wrapping. len may be 0. */
static inline bool range_within(u64 base, u64 len, u64 limit) {
	return base <= limit && len <= limit - base;
}
