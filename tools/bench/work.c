/*
 * Small Linux workloads, timed by the TSC, which under the counting machine ticks once per executed
 * instruction. `work NAME COUNT` prints `work NAME COST`: ticks per repetition. `work tsc LABEL`
 * prints `tsc LABEL TICKS`; `work init` takes the plugin's reading of a guest that reached init,
 * `work idle SECONDS` one before and one behind a sleep.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#include "tools/bench/mark.h"

#define PAGE  4096l
#define CHUNK (16l << 20)

static void fail(const char *what) {
	perror(what);
	exit(1);
}

static void do_spin(long count) {
	__asm__ volatile("1: dec %0\n\t"
			 "jnz 1b"
			 : "+r"(count));
}

static void do_cpuid(long count) {
	unsigned r[4];

	while (count--) __cpuid_count(0, 0, r[0], r[1], r[2], r[3]);
}

static void do_syscall(long count) {
	while (count--) syscall(SYS_getppid);
}

static void reap(pid_t child) {
	int status;

	if (child < 0) fail("fork");
	if (waitpid(child, &status, 0) != child || status) fail("child");
}

static void do_fork(long count) {
	while (count--) {
		pid_t child = fork();

		if (!child) _exit(0);
		reap(child);
	}
}

static void do_exec(long count) {
	while (count--) {
		pid_t child = fork();

		if (!child) {
			execl("/proc/self/exe", "work", "nothing", (char *)NULL);
			_exit(1);
		}
		reap(child);
	}
}

/* count MiB, in chunks, one write to each small page. */
static void do_touch(long count) {
	for (long done = 0; done < count << 20; done += CHUNK) {
		char *p = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);

		if (p == MAP_FAILED) fail("mmap");
		madvise(p, CHUNK, MADV_NOHUGEPAGE);
		for (long at = 0; at < CHUNK; at += PAGE) p[at] = 1;
		munmap(p, CHUNK);
	}
}

/* One byte to another process and back. */
static void do_pipe(long count) {
	int there[2], back[2];
	char byte = 0;

	if (pipe(there) || pipe(back)) fail("pipe");
	pid_t child = fork();
	for (long i = 0; i < count; i++) {
		int from = child ? back[0] : there[0], to = child ? there[1] : back[1];

		if (child && write(to, &byte, 1) != 1) fail("write");
		if (read(from, &byte, 1) != 1) fail("read");
		if (!child && write(to, &byte, 1) != 1) _exit(1);
	}
	if (!child) _exit(0);
	reap(child);
}

/* count MiB of copying. */
static void do_copy(long count) {
	char *p = malloc(2 << 20);

	if (!p) fail("malloc");
	memset(p, 1, 2 << 20);
	while (count--) {
		memcpy(p, p + (1 << 20), 1 << 20);
		__asm__ volatile("" : : "r"(p) : "memory");
	}
	free(p);
}

static const struct {
	const char *name;
	void (*run)(long count);
} workloads[] = {
	{"spin", do_spin}, {"cpuid", do_cpuid}, {"syscall", do_syscall}, {"fork", do_fork},
	{"exec", do_exec}, {"touch", do_touch}, {"pipe", do_pipe},	 {"copy", do_copy},
};

int main(int argc, char **argv) {
	const char *name = argc > 1 ? argv[1] : "";
	long count = argc > 2 ? atol(argv[2]) : 0;

	if (!strcmp(name, "nothing")) return 0;
	if (!strcmp(name, "init")) {
		MARK_NOP(MARK_INIT);
		return 0;
	}
	if (!strcmp(name, "idle") && count > 0) {
		MARK_NOP(MARK_START);
		sleep((unsigned)count);
		MARK_NOP(MARK_END);
		return 0;
	}
	if (!strcmp(name, "tsc") && argc > 2) {
		printf("tsc %s %llu\n", argv[2], __rdtsc());
		return 0;
	}
	for (size_t i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++) {
		if (count <= 0 || strcmp(name, workloads[i].name)) continue;
		uint64_t begin = __rdtsc();

		workloads[i].run(count);
		printf("work %s %llu\n", name, (__rdtsc() - begin) / (uint64_t)count);
		return 0;
	}
	fprintf(stderr, "work: no workload %s with such a count\n", name);
	return 1;
}
