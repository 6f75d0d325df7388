"""What several guests on one processor cost Roost and each other: tools/bench/crowd.c as the guests.

Each run has its machine to itself, is counted, and repeats to the digit.
"""

import re
import subprocess
import sys
from pathlib import Path

import machine

MIB = 1 << 20
SMALL = 8 * MIB
TICKS_A_VM = 30_000_000  # until the guests that are started after it have started, too
SPIN = 400_000_000  # 80 time slices of 5 ms
WAKES = 620_000_000  # what 200 waits of crowd.c take, and some
LIMIT = 300
SPARE = 2048 * MIB  # for everything else

# name, what, goal.
FIGURES = [
    ("vms-1", "CPUID, one VM", 200),
    ("vms-8", "CPUID beside 7 sleeping VMs", 200),
    ("vms-64", "CPUID beside 63 sleeping VMs", 200),
    ("switch", "exit that changes the guest, vector state included", 1200),
    ("switch-all", "all of Roost per change of the guest", None),
    ("unfair", "three busy guests: per mille that the last got less than the first", 20),
    ("wake-alone", "deadline timer to handler of a sleeping guest, alone: median", 1800),
    ("wake-alone-max", "the same, most", None),
    ("wake-busy", "beside a guest that never sleeps: median", None),
    ("wake-busy-high", "the same, 99 of 100 are not later", None),
    ("wake-busy-max", "the same, most", None),
    ("vm-create", "making a VM of 64 MiB, filling memory not counted", None),
    ("vm-create-4g", "the same of 4 GiB", None),
    ("vm-destroy", "destroying a VM of 64 MiB, filling memory not counted", None),
    ("vm-destroy-4g", "the same of 4 GiB", None),
    ("vm-memory", "KiB of a VM beside its own memory of 64 MiB", 64 + 64 * 1024 * 3 // 1000),
]


def said(text, words, count=1):
    """The numbers in the line of each of so many guests; the output of all but one bears a name."""
    found = re.findall(rf"^(?:\[g\d+\] )?crowd {words}$", text, re.MULTILINE)
    if len(found) != count:
        sys.exit(f"bench: {len(found)} of {count} guests said `{words}`")
    return [tuple(map(int, [each] if isinstance(each, str) else each)) for each in found]


def available_memory():
    text = Path("/proc/meminfo").read_text()
    return int(re.search(r"MemAvailable:\s+(\d+) kB", text).group(1)) * 1024


class Several:
    """out: where runs leave their files; plugin: (report, options) of a run's name and words."""

    def __init__(self, out, plugin, run, read_count):
        self.out = out
        self.plugin = plugin
        self.run = run
        self.read_count = read_count
        self.guest = out / "crowd.elf"

    def boot(self, box, words, sizes, others=""):
        sections = [machine.guest_config(f"g{n}", kernel="guest.elf", cpus=1, debug_exit="yes",
                                         memory=f"{size // MIB}M", cmdline=each)
                    for n, (each, size) in enumerate(zip(words, sizes))]
        config = "".join(sections) + others
        box.roost("on-idle=poweroff console=com1",
                  [box.stage("guest.elf", self.guest), box.stage("roost.conf", config)])
        log = box.workdir.with_suffix(".log")
        log.unlink(missing_ok=True)
        return self.run(box, log, LIMIT)

    def crowd(self, name, roles, ticks):
        """(what the guests print, the plugin's report)."""
        report, options = self.plugin(name)
        box = machine.Machine(self.out / name, cpu=machine.MAX, options=machine.COUNTED + options,
                              memory=machine.host_memory(len(roles) * (SMALL + MIB), self.guest))
        start = 100_000_000 + len(roles) * TICKS_A_VM
        text = self.boot(box, [f"{role} start={start} end={start + ticks}" for role in roles],
                         [SMALL] * len(roles))
        return text, report

    def exits_beside(self, others):
        text, _ = self.crowd(f"crowd-{others + 1}", ["cpuid"] + ["idle"] * others, 100_000_000)
        return said(text, r"cpuid (\d+)")[0][0]

    def switches(self):
        text, report = self.crowd("crowd-switch", ["spin"] * 2, SPIN)
        changes = sum(gaps for _, gaps in said(text, r"rounds (\d+) gaps (\d+)", 2))
        _, marks = self.read_count(report)
        cost = [tuple(map(int, pair)) for pair in
                re.findall(r"^cost (\d+) times (\d+)$", report.read_text(), re.MULTILINE)]
        often = [c for c, times in cost if times > 3 * changes // 4]
        if not often:
            sys.exit("bench: no exit comes once for each change of the guest")
        # The dearest of those.
        return {"switch": max(often),
                "switch-all": round((marks[3]["host"] - marks[2]["host"]) / changes)}

    def unfairness(self):
        text, _ = self.crowd("crowd-fair", ["spin"] * 3, 3 * SPIN)
        rounds = [n for n, _ in said(text, r"rounds (\d+) gaps (\d+)", 3)]
        return round(1000 * (max(rounds) - min(rounds)) / max(rounds), 1)

    def wakes(self, name, *others):
        text, _ = self.crowd(f"crowd-{name}", ["wake", *others], WAKES)
        return dict(zip((name, f"{name}-high", f"{name}-max"),
                        said(text, r"wake (\d+) (\d+) (\d+)")[0]))

    def created(self, sizes, memory):
        """(KiB free behind VMs of these sizes, instructions of Roost until the first one runs)."""
        report, options = self.plugin("crowd-create")
        box = machine.Machine(self.out / "crowd-create", cpu=machine.MAX, memory=memory,
                              options=machine.COUNTED + options)
        text = self.boot(box, ["idle start=1 end=1"] * len(sizes), sizes,
                         machine.guest_config("large", kernel="guest.elf", memory="64G"))
        free = re.search(r"vm large: not enough memory: .*?(\d+) KiB free", text)
        return int(free.group(1)), self.read_count(report)[0]["before_first"]

    def destroyed(self, size):
        """Instructions of Roost from the moment when nothing leads to a VM any more until all that it
        had is free."""
        symbols = dict(reversed(line.split()[::2]) for line in subprocess.run(
            ["nm", machine.IMAGE], text=True, check=True, stdout=subprocess.PIPE).stdout.splitlines())
        report, options = self.plugin("crowd-destroy", f"from={symbols['sched_quiet_begin']}",
                                      f"to={symbols['page_free']}")
        box = machine.Machine(self.out / "crowd-destroy", cpu=machine.MAX, memory=size + 256 * MIB,
                              options=machine.COUNTED + options)
        config = machine.guest_config("g0", kernel="guest.elf", debug_exit="yes",
                                      memory=f"{size // MIB}M", cmdline="idle start=1 end=1")
        box.roost("on-idle=shell console=com1",
                  [box.stage("guest.elf", self.guest), box.stage("roost.conf", config)])
        talk = box.spawn(box.workdir.with_suffix(".log"), LIMIT)
        try:
            talk.expect("roost> ")
            talk.send("vm destroy g0\r")
            talk.expect("vm g0: destroyed")
            talk.send("poweroff\r")
            box.wait(LIMIT)
        finally:
            box.kill()
        return self.read_count(report)[0]["span"]

    def creation(self):
        """All are made before the first one runs, so that what more of them cost is their share."""
        size, large = 64 * MIB, 4096 * MIB
        one, nine = (self.created([size] * count, 1024 * MIB) for count in (1, 9))
        create = round((nine[1] - one[1]) / 8)
        figures = {"vm-memory": (one[0] - nine[0]) // 8 - size // 1024, "vm-create": create,
                   "vm-create-4g": None, "vm-destroy": self.destroyed(size), "vm-destroy-4g": None}
        if available_memory() < large + SPARE:
            print("A VM of 4 GiB is not measured: this computer has too little memory free.")
            return figures
        small, big = (self.created([each], large + 256 * MIB)[1] for each in (size, large))
        figures["vm-create-4g"] = create + big - small
        figures["vm-destroy-4g"] = self.destroyed(large)
        return figures

    def measure(self):
        figures = {f"vms-{n}": self.exits_beside(n - 1) for n in (1, 8, 64)}
        figures.update(self.switches())
        figures["unfair"] = self.unfairness()
        figures.update(self.wakes("wake-alone"))
        figures.update(self.wakes("wake-busy", "spin"))
        figures.update(self.creation())
        return {name: figures[name] for name, _, _ in FIGURES}
