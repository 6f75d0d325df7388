/* The smallest guest: it prints and ends. What a loader or a back end is brought up with. */
#include "guest-tests/lib/guest.h"

const char test_name[] = "hello";

void test_main(void) {
	print("hello from a guest in long mode, %lu KiB of memory\n", ram_top() >> 10);
	check("long mode is active", (rdmsr(X86_MSR_EFER) & X86_EFER_LMA) != 0);
}
