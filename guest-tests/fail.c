/* Fails on purpose: a rig that does not report this one as failed is itself broken. */
#include "guest-tests/lib/guest.h"

const char test_name[] = "fail";

void test_main(void) {
	check("this check passes", true);
	check_eq("this check fails on purpose", 1, 2);
}
