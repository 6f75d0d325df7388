"""What guests of guests cost: Linux as L2 of Linux' KVM to its shell, and Roost as L1 in Roost.

Both are counted, on one processor, and repeat to the digit.
"""

import re
import sys

import machine

MIB = 1 << 20
LIMIT = 900
MARK_INIT, MARK_L2 = 1, 4  # tools/bench/mark.h

# name, what, KVM, goal. The KVM figure is of that monitor with its KVM on the machine itself.
LINUX = [
    ("linux-l2-init", "instructions of all levels from L2's first to its init", 1_693e6, None),
    ("linux-l2-init-exits", "exits to Roost in that time, L1's own included", None, None),
    ("linux-l2-init-exits-l1", "exits of L2 that its KVM handles", None, None),
    ("linux-l2-init-host", "instructions of Roost in that time", None, None),
    ("linux-l2-exec", "fork, exec, wait in L2", None, None),
    ("linux-l2-touch", "mmap and touch of 1 MiB by 4 KiB pages in L2", None, None),
]
# What a guest of Roost in Roost sees of guest-tests/bench.c; behind it the same one level below.
ROOST = [(f"roost-l2-{name}", what) for name, what in (
    ("cpuid", "CPUID in L2, Roost as L1"),
    ("port-pic", "port read, PIC, in L2"),
    ("msr-read", "RDMSR TSC_ADJUST in L2"),
    ("eoi-x2apic", "EOI through x2APIC in L2"),
    ("tsc-deadline", "deadline timer in L2, armed to handler"),
    ("vmrun-npt", "VMRUN of L2 until L3 runs"),
    ("l2-vmmcall-npt", "VMMCALL of L3 until L2 runs"),
    ("vmload", "VMLOAD in L2"),
    ("stgi", "STGI in L2"),
)]


class Levels:
    """out: where runs leave their files; plugin: (report, options) of a run's name; guest: the image of
    guest-tests/bench.c."""

    def __init__(self, out, plugin, run, read_count, guest):
        self.out = out
        self.plugin = plugin
        self.run = run
        self.read_count = read_count
        self.guest = guest

    def boot(self, box):
        log = box.workdir.with_suffix(".log")
        log.unlink(missing_ok=True)
        return self.run(box, log, LIMIT)

    def linux(self, cmdline, memory):
        report, options = self.plugin("levels-linux")
        box = machine.linux_guest(self.out / "levels-linux", initrd=self.out / "l1.img", cpu=machine.MAX,
                                  memory=memory, options=machine.COUNTED + options,
                                  cmdline=f"{cmdline} job=nested l2-words=nokaslr")
        text = self.boot(box)
        work = {n: int(c) for n, c in re.findall(r"^work (\S+) (\d+)$", text, re.MULTILINE)}
        if "L1: monitor 0" not in text or "exec" not in work:
            sys.exit(f"bench: the L2 of Linux did not finish, see {self.out}/levels-linux.log")
        _, marks = self.read_count(report)
        spent = {key: marks[MARK_INIT][key] - marks[MARK_L2][key] for key in marks[MARK_L2]}
        return {"linux-l2-init": spent["total"], "linux-l2-init-exits": spent["entries"],
                "linux-l2-init-exits-l1": spent["nested"], "linux-l2-init-host": spent["host"],
                "linux-l2-exec": work["exec"], "linux-l2-touch": work["touch"]}

    def roost(self):
        """The inner Roost has no roost.conf: its guest has all the memory, mapped beforehand."""
        memory = 160 * MIB
        box = machine.Machine(self.out / "levels-roost", cpu=machine.MAX, options=machine.COUNTED,
                              memory=machine.host_memory(memory, machine.IMAGE, self.guest))
        names = [box.stage("roost.img", machine.IMAGE), box.stage("guest.elf", self.guest)]
        config = machine.guest_config("outer", kernel="roost.img", cmdline="on-idle=poweroff",
                                      modules="guest.elf", memory=f"{memory // MIB}M")
        box.roost("on-idle=poweroff", [*names, box.stage("roost.conf", config)])
        text = self.boot(box)
        found = {n: int(c) for n, c in re.findall(r"^bench (\S+) (\d+)$", text, re.MULTILINE)}
        if not re.search(r"^RESULT bench: \d+ passed, 0 failed", text, re.MULTILINE):
            sys.exit(f"bench: the guest of Roost in Roost did not finish, see {self.out}/levels-roost.log")
        return {name: found[name.removeprefix("roost-l2-")] for name, _ in ROOST}
