/* Against speculation over the borders of VMs: docs/isolation.md says what from, and what is left.
 */
#pragma once

/* On the boot processor, before the others start: what these CPUs can do, in the log as well. */
void speculation_init(void);

/* On each CPU, the boot processor included: Roost's own branches are not a guest's to steer. */
void speculation_init_cpu(void);

/* This CPU goes from one VM to another, which learns nothing from what the first has left in it. */
void speculation_barrier(void);
