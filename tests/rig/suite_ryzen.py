"""A second opinion on SVM: guest tests that take no interrupts, on Bochs' AMD processor.

Bochs 2.7 has what QEMU lacks of SVM: nRIP, typed EXITINTINFO, an interrupt shadow that VMRUN loads,
#GP for bad control registers. But its INTR intercept does not exit while the guest's IF is clear,
and a virtual interrupt is not delivered when IF is set already, so that nothing which is preempted
or waits for an interrupt runs there.
"""

import bochs
from harness import cannot, test
from suite_guest import NAMES, run_guest, verdict, wishes

LIMIT = 300
SMOKE = ("acpi", "cpuid", "hello", "mmio", "msr", "paging", "pci", "svm_insn", "touchall")
INTERRUPTS = "Bochs' SVM has no exit for an interrupt while the guest's IF is clear"
TRIPLE_FAULT = "Bochs ends where a guest's triple fault should exit as SHUTDOWN"
REASONS = {
    "badcr": TRIPLE_FAULT,
    "svm_npt": TRIPLE_FAULT,
    "svm_vmrun": TRIPLE_FAULT,
    "exceptions": "Bochs raises the trap after a guest's single step on the host",
}


def guest_test(name):
    @test(f"ryzen/{name}", limit=LIMIT, needs=("build/gcc", "build/guest-tests"))
    def run(t):
        verdict(t, *run_guest(t, name, bochs.RYZEN))


for each_name in NAMES:
    if each_name in SMOKE:
        guest_test(each_name)
    elif wishes(each_name).get("machine", "amd") != "amd":
        cannot(f"ryzen/{each_name}", "of VMX, which is Intel's")
    else:
        cannot(f"ryzen/{each_name}", REASONS.get(each_name, INTERRUPTS))
