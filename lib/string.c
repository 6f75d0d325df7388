/*
 * Copying and filling use the string instructions: no vector register may be touched. Unit tests of
 * other files use the C library's; test_string.c includes this file under other names.
 */
#define STRING_FUNCTIONS
#include "lib/string.h"

/* Keeps gcc from turning the loops below into calls of the very functions they are in. */
#ifndef __clang__
#pragma GCC optimize("no-tree-loop-distribute-patterns")
#endif

void *memcpy(void *restrict to, const void *restrict from, size_t len) {
	void *d = to;
	size_t count = len / 8;

	__asm__ volatile("rep movsq" : "+D"(d), "+S"(from), "+c"(count) : : "memory");
	count = len % 8;
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(count) : : "memory");
	return to;
}

void *memmove(void *to, const void *from, size_t len) {
	char *d = (char *)to + len - 1;
	const char *s = (const char *)from + len - 1;
	size_t bytes = len % 8;

	if ((u64)to - (u64)from >= len) return memcpy(to, from, len);

	/* The end of `from` lies in `to`: backwards, odd bytes at the end first. */
	__asm__ volatile("std\n\t"
			 "rep movsb\n\t"
			 "sub $7, %0\n\t"
			 "sub $7, %1\n\t"
			 "mov %3, %2\n\t"
			 "rep movsq\n\t"
			 "cld"
			 : "+D"(d), "+S"(s), "+c"(bytes)
			 : "r"(len / 8)
			 : "memory");
	return to;
}

void *memset(void *to, int value, size_t len) {
	u64 pattern = (u8)value * 0x0101010101010101ul;
	void *d = to;
	size_t count = len / 8;

	__asm__ volatile("rep stosq" : "+D"(d), "+c"(count) : "a"(pattern) : "memory");
	count = len % 8;
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(count) : "a"(pattern) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t len) {
	const u8 *x = a;
	const u8 *y = b;

	for (size_t i = 0; i < len; i++)
		if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
	return 0;
}

size_t strnlen(const char *s, size_t max) {
	size_t len = 0;

	while (len < max && s[len]) len++;
	return len;
}

size_t strlen(const char *s) { return strnlen(s, SIZE_MAX); }

int strcmp(const char *a, const char *b) {
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (u8)*a - (u8)*b;
}
