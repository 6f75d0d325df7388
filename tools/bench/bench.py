#!/usr/bin/python3
"""`make bench`: what Roost costs, on the two machines whose TSC counts executed instructions.

For each, a table of single operations, as a guest sees them, and one of the same in a guest that is a
hypervisor; on the AMD machine also one of a whole Debian guest, counted from outside by the plugin,
one of guests of guests, and one of several guests. They stand beside Linux KVM on the same machine and
beside the goals. The figures are deterministic. --check holds them against those kept in
docs/benchmarks.md, --keep writes them there.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import bochs  # noqa: E402
import levels  # noqa: E402
import machine  # noqa: E402
import several  # noqa: E402

OUT = machine.BUILD / "bench"
KEPT = machine.ROOT / "docs" / "benchmarks.md"
WORSE = 1.05
OTHER_LIMIT = {"image"}  # may grow with what it can do; build/size has its limit
LIMITS = {"unfair": 20}  # so near 0 that a share of it means nothing
MIB = 1 << 20
LINUX_MEMORY = 512 * MIB
GUEST = machine.BUILD / "guest" / "bench.elf"
GUEST_MEMORY = 128 * MIB
INTEL_LINUX_MEMORY = 200 * MIB
INTEL_LINUX_LIMIT = 900  # seconds; a machine that has nothing else to do takes 30
INTEL_LIMIT = 300  # seconds, of a machine that 4 to 40 are enough for
MARK_INIT, MARK_START, MARK_END = 1, 2, 3
IDLE_SECONDS = 10  # as in tools/bench/init
# Where the kernel lies in memory must not depend on the time at which it starts.
CMDLINE = machine.GUEST_CMDLINE + " nokaslr"

# Single operations: name in the guest test, what it is, Linux KVM (6.1), goal.
OPERATIONS = [
    ("cpuid", "CPUID", 2958, 200),
    ("hypercall", "VMMCALL that does nothing", 3107, 200),
    ("port-pic", "port read, PIC", 1530, 250),
    ("port-pmtimer", "port read, ACPI PM timer", 5244, 300),
    ("msr-read", "RDMSR TSC_ADJUST", 2927, 250),
    ("msr-write", "WRMSR TSC_ADJUST", 3445, 250),
    ("eoi-mmio", "EOI through MMIO", 3464, 700),
    ("eoi-x2apic", "EOI through x2APIC", None, 250),
    ("self-ipi-xapic", "self-IPI to handler, MMIO", 9404, 1500),
    ("self-ipi-x2apic", "self-IPI to handler, x2APIC", None, 1500),
    ("tsc-deadline", "deadline timer, armed to handler", 8269, 1800),
    ("cr0-wp-toggle", "CR0.WP off and on", 8990, 600),
    ("page-fill", "nested page fault, one 4 KiB page", 2672, 700),
    ("mmio-write", "MMIO write to a device", 7125, 900),
    ("uart-byte", "byte to the serial port", 20000, 2500),
]

# Two levels: the same, of a guest that is a hypervisor. With the kernel's KVM as L1 the KVM column
# is of KVM in KVM.
TWO_LEVELS = [
    ("vmrun", "VMRUN until L2 runs", 9784, 1300),
    ("l2-vmmcall", "VMMCALL of L2 until L1 runs", 3054, 900),
    ("vmrun-npt", "VMRUN, L2 with nested paging", None, 1300),
    ("l2-vmmcall-npt", "VMMCALL, L2 with nested paging", None, 900),
    ("l2-page-fill", "nested page fault of L2, one 4 KiB page", None, None),
    ("l1-flush-64", "flush by L1, 64 pages of L2 in use", None, None),
    ("l1-flush-1024", "flush by L1, 1024 pages of L2 in use", None, None),
    ("vmload", "VMLOAD", 3802, 250),
    ("vmsave", "VMSAVE", 3802, 250),
    ("stgi", "STGI", 6, 250),
    ("clgi", "CLGI", 6, 250),
    ("linux-l2-cpuid", "CPUID in L2, Linux' KVM as L1", 29929, 8000),
    ("linux-l2-cr4", "MOV to CR4 in L2, Linux' KVM as L1", None, None),
    ("linux-l2-port", "port read in L2, by L1's kernel", 28959, 7500),
    ("linux-l2-monitor", "port read in L2, by a program of L1", None, None),
]

# The same on the Intel machine: Linux KVM there, goal. Two writes of CR0 do not exit.
INTEL_GOALS = {
    "cpuid": (1100, 200), "hypercall": (1090, 200), "port-pic": (1405, 250),
    "port-pmtimer": (7495, 300), "msr-read": (None, 250), "msr-write": (None, 250),
    "eoi-mmio": (None, 700), "eoi-x2apic": (None, 250), "self-ipi-xapic": (None, 1200),
    "self-ipi-x2apic": (None, 1200), "tsc-deadline": (None, 1500), "cr0-wp-toggle": (None, 10),
    "page-fill": (None, 700), "mmio-write": (None, 900), "uart-byte": (None, 2500),
}  # fmt: skip
INTEL_OPERATIONS = [(name, what.replace("VMMCALL", "VMCALL").replace("nested page fault", "EPT violation"),
                     *INTEL_GOALS[name]) for name, what, _, _ in OPERATIONS if name in INTEL_GOALS]
# Those of two levels once more without VMCS shadowing by the processor, where that shows.
PLAIN, NO_SHADOWING = "-plain", "vmx=-vmcs-shadowing"
PLAIN_GOALS = {"vmread": 250, "vmwrite": 250}
INTEL_TWO_LEVELS = [
    ("vmlaunch", "VMLAUNCH after VMCLEAR and VMPTRLD", None, None),
    ("vmresume", "VMRESUME until L2 runs", None, 1500),
    ("l2-vmcall", "VMCALL of L2 until L1 runs", None, 1000),
    ("vmread", "VMREAD", None, None),
    ("vmwrite", "VMWRITE", None, None),
    ("l2-ept-fill", "EPT violation of L2, one 4 KiB page", None, None),
    ("linux-l2-cpuid", "CPUID in L2, Linux' KVM as L1", None, 6000),
    ("linux-l2-port", "port read in L2, by L1's kernel", None, None),
    ("linux-l2-monitor", "port read in L2, by a program of L1", None, None),
]
INTEL_TWO_LEVELS += [(name + PLAIN, f"{what}, without shadowing", None, PLAIN_GOALS.get(name, goal))
                     for name, what, _, goal in INTEL_TWO_LEVELS
                     if name not in ("vmlaunch", "l2-ept-fill")]
# Processors whose figures must be the same: the older one lacks PML, TSC scaling and XSAVES.
INTEL_MODELS = (bochs.HASWELL, bochs.SKYLAKE)

# The whole guest: name, what it is, unit, KVM, goal. A goal that is relative to the direct run is
# a share of it.
WHOLE = [
    ("linux-init", "instructions from the first of the guest to init", "instructions", 1_693e6, None),
    ("linux-init-exits", "exits in that time", "exits", None, None),
    ("linux-init-host", "instructions of Roost in that time", "instructions", None, None),
    ("linux-entries", "VM entries from start to power-off", "entries", 22_065, 15_000),
    ("linux-exit", "instructions of Roost per exit", "instructions", 2_105, 300),
    ("linux-share", "instructions of Roost per 1000 of the guest", "per mille", 32, 4),
    ("linux-exec", "fork, exec, wait", "instructions", None, None),
    ("linux-touch", "mmap and touch of 1 MiB by 4 KiB pages", "instructions", None, None),
    ("linux-serial", "20 lines of 65 bytes to the serial port", "instructions", None, None),
    ("linux-idle", "VM entries a second when idle", "entries", None, 20),
    ("start-up", "instructions of Roost before the guest's first, filling memory not counted",
     "instructions", 1_670e6, 30e6),
    ("own-memory", "memory that Roost keeps for itself", "KiB", 78 * 1024, None),
    ("image", "image, stripped", "bytes", 16.9e6, 300 * 1024),
]
# What KVM adds to the direct run and what Roost may add, in percent.
OVER_DIRECT = {"linux-init": (17, 2), "linux-exec": (14, 1), "linux-touch": (17, 1),
               "linux-serial": (1560, 200)}


# What is kept of a machine: the block in docs/benchmarks.md; of operations name, what, KVM, goal.
Machine = namedtuple("Machine", "title begin end operations two_levels")
AMD = Machine("AMD", "<!-- kept figures -->", "<!-- end of kept figures -->", OPERATIONS, TWO_LEVELS)
INTEL = Machine("Intel", "<!-- kept figures, Intel -->", "<!-- end of kept figures, Intel -->",
                INTEL_OPERATIONS, INTEL_TWO_LEVELS)


def run(box, log, limit):
    status, text = box.run(log, limit)
    if status is None:
        sys.exit(f"bench: no end within {limit} s, see {log}")
    return text


def fresh_log(name):
    log = OUT / f"{name}.log"
    log.unlink(missing_ok=True)
    return log


def floor(target):
    """Instructions of one exit for a loop that only switches the registers."""
    if target is INTEL:
        box = bochs.Bochs(OUT / "floor-intel", limit=INTEL_LIMIT)
        box.roost(image=OUT / "floor_vmx.elf", multiboot=1)
    else:
        box = machine.Machine(OUT / "floor", cpu=machine.MAX, options=machine.COUNTED)
        box.roost(image=OUT / "floor.elf")
    text = run(box, fresh_log(box.workdir.name), INTEL_LIMIT)
    return int(re.search(r"^bench floor-exit (\d+)$", text, re.MULTILINE).group(1))


def operations(target):
    """{name: instructions, or None where the guest has no such thing} from the guest test."""
    if target is AMD:
        memory = machine.host_memory(GUEST_MEMORY, GUEST)
        return operations_on(machine.Machine(OUT / "operations", cpu=machine.MAX, memory=memory,
                                             options=machine.COUNTED))
    figures = [operations_on(bochs.Bochs(OUT / f"operations-{model}", cpu=model, limit=INTEL_LIMIT))
               for model in INTEL_MODELS]
    # The tick of the preemption timer may fall on an operation more or less: one instruction of
    # the mean of 1000.
    same = figures[0].keys() == figures[1].keys() and all(
        a == b or (a is not None and b is not None and abs(a - b) <= 1)
        for a, b in zip(figures[0].values(), figures[1].values()))
    if not same:
        sys.exit(f"bench: {' and '.join(INTEL_MODELS)} differ: {figures}")
    plain = operations_on(bochs.Bochs(OUT / f"operations{PLAIN}", limit=INTEL_LIMIT), NO_SHADOWING)
    return {**figures[0], **{name + PLAIN: cost for name, cost in plain.items()}}


def operations_on(box, words=""):
    config = machine.guest_config("bench", kernel="guest.elf", memory=f"{GUEST_MEMORY // MIB}M",
                                  cpus=1, debug_exit="yes",
                                  # Else all memory is mapped beforehand, and no page is filled.
                                  populate="lazy", page_size="4K")
    box.roost(f"on-idle=poweroff loglevel=warn {words}".rstrip(),
              [box.stage("guest.elf", GUEST), box.stage("roost.conf", config)])
    log = fresh_log(box.workdir.name)
    text = run(box, log, INTEL_LIMIT)
    if not re.search(r"^RESULT bench: \d+ passed, 0 failed", text, re.MULTILINE):
        sys.exit(f"bench: the guest test did not finish, see {log}")
    found = re.findall(r"^bench (\S+) (\d+|none)$", text, re.MULTILINE)
    return {name: None if cost == "none" else int(cost) for name, cost in found}


def linux_as_l1(target, words="", suffix=""):
    """{name: instructions} of single operations in an L2, with Linux' KVM as L1."""
    log = f"l1-{target.title.lower()}{suffix}"
    guest = {"initrd": machine.BUILD / "nested" / "initrd.img", "cmdline": CMDLINE + " job=nested l2=bench"}
    if target is AMD:
        box = machine.linux_guest(OUT / log, cpu=machine.MAX, memory=LINUX_MEMORY,
                                  options=machine.COUNTED, **guest)
    else:
        box = bochs.linux_guest(OUT / log, memory=INTEL_LINUX_MEMORY, limit=INTEL_LINUX_LIMIT,
                                words=f"on-idle=poweroff {words}".rstrip(), **guest)
        box.time0 = bochs.TIME0
    text = run(box, fresh_log(log), box.limit if target is INTEL else 300)
    found = re.findall(r"^bench l2-(\S+) (\d+)$", text, re.MULTILINE)
    if "L1: monitor 0" not in text:
        sys.exit(f"bench: no figures with Linux as L1, see {OUT}/{log}.log")
    return {f"linux-l2-{name}{suffix}": int(cost) for name, cost in found}


def entry_point():
    """Where Roost begins, as the plugin's argument."""
    header = subprocess.run(["readelf", "-h", machine.IMAGE], text=True, check=True,
                            stdout=subprocess.PIPE).stdout
    return "first=" + re.search(r"Entry point address:\s+0x(\w+)", header).group(1)


def read_count(path):
    """The plugin's report: its totals, and the total at each mark."""
    count, marks = {}, {}
    for line in path.read_text().splitlines():
        words = line.split()
        if words[0] == "mark":
            marks[int(words[1])] = dict(zip(words[2::2], map(int, words[3::2])))
        elif words[0] != "cost":
            count[words[0]] = int(words[1])
    return count, marks


def guest_figures(text):
    figures = {n: int(c) for n, c in re.findall(r"^work (\S+) (\d+)$", text, re.MULTILINE)}
    ticks = {n: int(c) for n, c in re.findall(r"^tsc (\S+) (\d+)$", text, re.MULTILINE)}
    if "bench-end" not in text:
        sys.exit(f"bench: the Linux workloads did not finish, see the logs in {OUT}")
    return {"linux-exec": figures["exec"], "linux-touch": figures["touch"],
            "linux-serial": ticks["serial-end"] - ticks["serial-start"],
            "linux-fork": figures["fork"], "linux-syscall": figures["syscall"],
            "linux-pipe": figures["pipe"]}


def plugin(name, *words):
    report = OUT / f"{name}.count"
    report.unlink(missing_ok=True)
    return report, ["-plugin", ",".join([str(OUT / "exitcount.so"), f"out={report}", *words])]


def linux_direct():
    """The same guest without any hypervisor; kept in the build directory, for it never changes."""
    inputs = (machine.KERNEL, OUT / "initrd.img", OUT / "exitcount.so")
    key = hashlib.sha256(b"".join(p.read_bytes() for p in inputs)).hexdigest()
    cache = OUT / "direct.json"
    if cache.is_file():
        known = json.loads(cache.read_text())
        if known.pop("key", None) == key:
            return known
    report, options = plugin("direct", "first=100000")
    box = machine.Machine(OUT / "direct", cpu=machine.MAX, memory=LINUX_MEMORY,
                          options=machine.COUNTED + options)
    box.linux(machine.KERNEL, OUT / "initrd.img", CMDLINE)
    figures = guest_figures(run(box, fresh_log("direct"), 300))
    count, marks = read_count(report)
    figures["linux-init"] = marks[MARK_INIT]["total"] - count["start_total"]
    cache.write_text(json.dumps(dict(figures, key=key)))
    return figures


def own_memory():
    """KiB that Roost keeps for itself beside one guest of 512 MiB: what the machine has, less the
    guest, less what is still free. The free memory is told to a second guest that is too large."""
    guest = machine.BUILD / "guest" / "hello.elf"
    memory = LINUX_MEMORY + 64 * MIB
    box = machine.Machine(OUT / "memory", cpu=machine.MAX, memory=memory)
    config = machine.guest_config("one", kernel="guest.elf", memory=f"{LINUX_MEMORY // MIB}M")
    config += machine.guest_config("large", kernel="guest.elf", memory="64G")
    box.roost("on-idle=poweroff",
              [box.stage("guest.elf", guest), box.stage("roost.conf", config)])
    text = run(box, fresh_log("memory"), 60)
    free = re.search(r"vm large: not enough memory: .*?(\d+) KiB free", text)
    return (memory - LINUX_MEMORY) // 1024 - int(free.group(1)) if free else None


def linux_roost():
    report, options = plugin("linux", entry_point())
    box = machine.linux_guest(OUT / "linux", initrd=OUT / "initrd.img", cmdline=CMDLINE, cpu=machine.MAX,
                              memory=LINUX_MEMORY, options=machine.COUNTED + options)
    text = run(box, fresh_log("linux"), 400)
    figures = guest_figures(text)
    count, marks = read_count(report)
    idle = {key: marks[MARK_END][key] - marks[MARK_START][key] for key in marks[MARK_START]}
    figures["linux-idle"] = idle["entries"] / IDLE_SECONDS
    count = {key: value - idle.get(key, 0) for key, value in count.items()}
    guest = count["total"] - count["first_total"] - count["host"]
    figures["linux-init"] = marks[MARK_INIT]["total"] - count["first_total"]
    figures["linux-init-exits"] = marks[MARK_INIT]["entries"]
    figures["linux-init-host"] = marks[MARK_INIT]["host"]
    figures["linux-entries"] = count["entries"]
    figures["linux-exit"] = round(count["host"] / max(1, count["entries"] - 1), 1)
    figures["linux-share"] = round(1000 * count["host"] / guest, 2)
    figures["start-up"] = count["before_first"] - count["start_total"]
    figures["own-memory"] = own_memory()
    return figures


def image_size():
    stripped = OUT / "roost.stripped"
    subprocess.run(["objcopy", "--strip-all", machine.IMAGE, stripped], check=True)
    return stripped.stat().st_size


def show(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def table(rows):
    """Aligned text, the first column to the left."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0])] +
                        [c.rjust(w) for c, w in zip(row[1:], widths[1:])]))


def report_operations(base, costs, operations, title):
    rows = [(title, "Roost", "x floor", "goal", "KVM")]
    for name, what, kvm, goal in operations:
        cost = costs.get(name)
        times = f"{cost / base:.1f}" if cost is not None else "-"
        rows.append((what, show(cost), times, show(goal), show(kvm)))
    table(rows)
    print()


def report_whole(whole, direct):
    print(f"Debian's {kernel_version()} as a guest, {LINUX_MEMORY // MIB} MiB, 1 vCPU")
    rows = [("figure", "Roost", "over direct", "goal", "KVM")]
    for name, what, _, kvm, goal in WHOLE:
        over, goal_text, kvm_text = "-", show(goal), show(kvm)
        if name in OVER_DIRECT:
            over = f"{100 * (whole[name] / direct[name] - 1):+.2f} %"
            kvm_text, goal_text = (f"+{x} %" for x in OVER_DIRECT[name])
        rows.append((what, show(whole.get(name)), over, goal_text, kvm_text))
    table(rows)
    print()


def report_levels(figures, whole):
    """Linux as L2 beside the same as L1, and Roost as L1."""
    beside = {"linux-l2-init": "linux-init", "linux-l2-init-exits": "linux-init-exits",
              "linux-l2-init-host": "linux-init-host", "linux-l2-exec": "linux-exec",
              "linux-l2-touch": "linux-touch"}
    rows = [("guests of guests", "Roost", "one level", "KVM")]
    rows += [(what, show(figures[name]), show(whole.get(beside.get(name))), show(kvm))
             for name, what, kvm, _ in levels.LINUX]
    rows += [(what, show(figures[name]), show(whole.get(name.removeprefix("roost-l2-"))), "-")
             for name, what in levels.ROOST]
    table(rows)
    print()


def report_several(figures):
    print("Several guests on one CPU, instructions of Roost and guests")
    rows = [("figure", "Roost", "goal")]
    rows += [(what, show(figures[name]), show(goal)) for name, what, goal in several.FIGURES]
    table(rows)
    print()


def kernel_version():
    return (machine.KERNEL.parent / "vmlinuz.version").read_text().split("_")[-1].strip()


def compiler_version():
    return subprocess.run(["gcc", "--version"], text=True, check=True,
                          stdout=subprocess.PIPE).stdout.splitlines()[0]


def kept_figures(target):
    """({name: figure}, {fact: text}) of docs/benchmarks.md."""
    text = KEPT.read_text()
    block = text[text.index(target.begin):text.index(target.end)]
    figures, facts = {}, {}
    for name, value in re.findall(r"^\| (\S[^|]*?) +\| ([^|]+?) +\|", block, re.MULTILINE):
        if re.fullmatch(r"[\d.]+", value):
            figures[name] = float(value)
        elif name in ("kernel", "compiler"):
            facts[name] = value
    return figures, facts


def keep(target, figures):
    lines = [target.begin, "| name | figure | x floor | goal | KVM |", "|---|---|---|---|---|",
             f"| compiler | {compiler_version()} | | | |", f"| kernel | {kernel_version()} | | | |"]
    known = {n: (kvm, goal) for n, _, _, kvm, goal in WHOLE}
    known.update({n: (kvm, goal) for n, _, kvm, goal in target.operations + target.two_levels})
    known.update({n: (kvm, goal) for n, _, kvm, goal in levels.LINUX})
    known.update({n: (None, goal) for n, _, goal in several.FIGURES})
    operation_names = {o[0] for o in target.operations + target.two_levels}
    for name, value in figures.items():
        if value is None:
            continue
        kvm, goal = known.get(name, (None, None))
        times = f"{value / figures['floor-exit']:.1f}" if name in operation_names else ""
        cells = [f"{value:g}" if isinstance(value, float) else str(value), times] + \
            ["" if x is None else f"{x:.0f}" for x in (goal, kvm)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    text = KEPT.read_text()
    KEPT.write_text(text[:text.index(target.begin)] + "\n".join(lines) + "\n" +
                    text[text.index(target.end):])


def check(target, figures):
    """Complaints about figures that are worse than the kept ones."""
    kept, facts = kept_figures(target)
    bad = []
    if not kept:
        return ["no figures are kept in docs/benchmarks.md"]
    same_kernel = facts.get("kernel") in (None, kernel_version())
    if not same_kernel:
        print(f"The kept figures of a whole guest are of kernel {facts.get('kernel')}: not compared.")
    bad += [f"{name} is not kept" for name in figures if name not in kept]
    for name, was in kept.items():
        if name in OTHER_LIMIT or (name.startswith("linux-") and not same_kernel):
            continue
        now = figures.get(name)
        if now is None and name in figures:
            print(f"{name}: not compared")
        elif now is None:
            bad.append(f"{name}: no figure, {was:g} was kept")
        elif now > LIMITS.get(name, max(was * WORSE, was + 1)):
            bad.append(f"{name}: {now:g}, {100 * (now / was - 1):.1f} % more than the {was:g} kept")
    return bad


def measure(target):
    """{name: figure}, in the tables' order, which it prints."""
    base, costs = floor(target), operations(target)
    costs.update(linux_as_l1(target))
    if target is INTEL:
        costs.update(linux_as_l1(target, NO_SHADOWING, PLAIN))
    print(f"{target.title}: instructions per operation, as the guest sees them; the floor is {base}.")
    report_operations(base, costs, target.operations, "operation")
    report_operations(base, costs, target.two_levels, "two levels")
    figures = {"floor-exit": base}
    figures.update({o[0]: costs[o[0]] for o in target.operations + target.two_levels
                    if costs.get(o[0]) is not None})
    if target is AMD:
        direct, whole = linux_direct(), linux_roost()
        whole["image"] = image_size()
        report_whole(whole, direct)
        figures.update({w[0]: whole[w[0]] for w in WHOLE if whole.get(w[0]) is not None})
        deep = levels.Levels(OUT, lambda name, *words: plugin(name, entry_point(), *words), run, read_count, GUEST)
        deep = {**deep.linux(CMDLINE, LINUX_MEMORY), **deep.roost()}
        report_levels(deep, figures)
        figures.update(deep)
        crowd = several.Several(OUT, lambda name, *words: plugin(name, entry_point(), *words), run, read_count)
        figures.update(crowd.measure())
        report_several(figures)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--operations", action="store_true", help="only these")
    parser.add_argument("--machine", choices=("amd", "intel"), help="only this one")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    bad = []
    for target in (AMD, INTEL):
        if options.machine not in (None, target.title.lower()):
            continue
        if target is INTEL and bochs.missing():
            print("The Intel machine is not measured; not installed:", *bochs.missing())
            continue
        if options.operations:
            print(operations(target))
            continue
        figures = measure(target)
        if options.keep:
            keep(target, figures)
            print(f"kept in {KEPT.relative_to(machine.ROOT)}")
        if options.check:
            bad += check(target, figures)
    for line in bad:
        print("WORSE", line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
