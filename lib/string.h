/* The C standard's functions, of which the compiler calls the first four on its own. */
#pragma once

#include "lib/types.h"

void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int value, size_t len);
int memcmp(const void *a, const void *b, size_t len);

size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);

/* Freestanding, a plain call would never be expanded in place, however small the length. */
#if !defined(UNIT_TEST) && !defined(STRING_FUNCTIONS)
#define memcpy(to, from, len)  __builtin_memcpy(to, from, len)
#define memmove(to, from, len) __builtin_memmove(to, from, len)
#define memset(to, value, len) __builtin_memset(to, value, len)
#define memcmp(a, b, len)      __builtin_memcmp(a, b, len)
#define strlen(s)	       __builtin_strlen(s)
#endif
