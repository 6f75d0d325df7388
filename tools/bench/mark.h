/* A reading of the counting plugin (exitcount.c): a long no-operation that costs no exit. */
#pragma once

#define MARK_NOP(n) __asm__ volatile("nopl %c0(%%rax,%%rax)" : : "i"(0x6d6b0000 + (n)))

/* Each reading's number; bench.py has the same list. */
enum mark { MARK_INIT = 1, MARK_START, MARK_END, MARK_L2 };
