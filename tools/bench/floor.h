/* What a floor does around its guest, for both vendors: RAX points to the guest's registers. */
#pragma once

#define FLOOR_ROUNDS 1000

#define FLOOR_LOAD                                                                 \
	"mov 0x08(%rax), %rcx\n\tmov 0x10(%rax), %rdx\n\tmov 0x18(%rax), %rbx\n\t" \
	"mov 0x28(%rax), %rbp\n\tmov 0x30(%rax), %rsi\n\tmov 0x38(%rax), %rdi\n\t" \
	"mov 0x40(%rax), %r8\n\tmov 0x48(%rax), %r9\n\tmov 0x50(%rax), %r10\n\t"   \
	"mov 0x58(%rax), %r11\n\tmov 0x60(%rax), %r12\n\tmov 0x68(%rax), %r13\n\t" \
	"mov 0x70(%rax), %r14\n\tmov 0x78(%rax), %r15\n\t"

#define FLOOR_SAVE                                                                 \
	"mov %rcx, 0x08(%rax)\n\tmov %rdx, 0x10(%rax)\n\tmov %rbx, 0x18(%rax)\n\t" \
	"mov %rbp, 0x28(%rax)\n\tmov %rsi, 0x30(%rax)\n\tmov %rdi, 0x38(%rax)\n\t" \
	"mov %r8, 0x40(%rax)\n\tmov %r9, 0x48(%rax)\n\tmov %r10, 0x50(%rax)\n\t"   \
	"mov %r11, 0x58(%rax)\n\tmov %r12, 0x60(%rax)\n\tmov %r13, 0x68(%rax)\n\t" \
	"mov %r14, 0x70(%rax)\n\tmov %r15, 0x78(%rax)\n\t"

#define FLOOR_PUSH "push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
#define FLOOR_POP  "pop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\t"
