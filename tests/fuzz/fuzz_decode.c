// sources: platform/decode.c platform/decode_tables.c
/*
 * Fuzz target of the decoder: the first byte of the input is the mode, the rest the instruction, in
 * a buffer of exactly its size. What decodes stays within bounds and does not depend on what
 * follows it.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -I. tests/fuzz/fuzz_decode.c <sources>
 */
#include <stdlib.h>
#include <string.h>

#include "platform/decode.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void check(bool condition) {
	if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
	struct insn insn, again;

	if (size < 2 || size > 32) return 0;
	enum cpu_mode mode = (enum cpu_mode)(data[0] % 3);
	size--;
	u8 *bytes = malloc(size);
	check(bytes);
	memcpy(bytes, data + 1, size);
	int err = decode(bytes, (unsigned)size, mode, &insn);
	if (err) {
		check(err == E_INVAL || err == E_NOSUPP || (err == E_TRUNC && size < INSN_MAX_LEN));
	} else {
		check(insn.length >= 1 && insn.length <= INSN_MAX_LEN && insn.length <= size);
		check(insn.mod <= 3 && insn.reg < NR_GPRS && insn.rm < NR_GPRS && insn.scale <= 3);
		check(insn.base <= REG_RIP || insn.base == REG_NONE);
		check(insn.index < NR_GPRS || insn.index == REG_NONE);
		check(!decode(bytes, insn.length, mode, &again));
		check(!memcmp(&insn, &again, sizeof(insn)));
		check(decode(bytes, insn.length - 1u, mode, &again) == E_TRUNC);
	}
	free(bytes);
	return 0;
}
