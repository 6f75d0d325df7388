"""Several VMs on one machine: their lives, and the shares that they get of its CPUs.

Where time is measured, the machine counts instructions on one CPU, and what else this computer does
plays no part. A flood never ends: its machine is ended when the others have shown what they should.
"""

import random
import re
import time

import bochs
import images
import machine
from guests import MODELS, RIG_WORDS, guest_image, need_bochs, test_guest
from harness import test
from suite_console import DETACH, Console, on_machines, run_with
from suite_linux import COMPLAINTS

LIFE = guest_image("life")
NEEDS = ("build/gcc", "build/guest-tests")
LINUX_NEEDS = (*NEEDS, "build/guest-files")


def vm(name, words, memory="8M", **keys):
    """A section of roost.conf with the guest `life`, whose own words are given."""
    return machine.guest_config(name, kernel="guest.elf", cmdline=words, memory=memory,
                                debug_exit="yes", **keys)


def spinning(cpu, ms):
    """Words for a guest that spins. Bochs does not end a guest with interrupts off for one of the host,
    and the serial line, whose turn it then is only after one of 5 ms, loses what is typed."""
    return f"spin={ms}" + (" sti" if cpu in bochs.MODELS else "")


def boot(t, config, cpu=machine.EPYC, host_cpus=1, memory=96 << 20, counted=False,
         words=RIG_WORDS):
    return test_guest(t, LIFE, cpu=cpu, host_cpus=host_cpus, memory=memory, config=config,
                      words=words, options=machine.COUNTED if counted else ())


def run(t, *args, **kwargs):
    """Runs to the end of the last VM; the text, with the names of VMs in front of lines taken off."""
    status, text = boot(t, *args, **kwargs).run(t.log, t.deadline.left())
    t.check("PANIC" not in text, "Roost panicked")
    t.check(status is not None, "the machine did not end in time")
    return status, text


WAYS = ("keyboard", "port-92", "cf9", "acpi", "init", "triple-fault")  # as life.c numbers them


def each_way_of_reset(t, cpu):
    """A hundred resets in a row by each way that a PC has, or twenty where the serial line has a true
    speed; each time memory and vector registers are as new."""
    times = 100 if cpu in MODELS.values() else 20
    # The first one has the console, so that the others' lines come whole.
    config = vm("first", "answer=1") + "".join(
        vm(name, f"resets={times} way={n}", cpus=2, on_crash="reset") for n, name in enumerate(WAYS))
    box = boot(t, config, cpu=cpu, host_cpus=2, memory=160 << 20, words="on-idle=shell")
    talk = box.spawn(t.log, t.deadline.left())
    try:
        talk.expect("no guest is running", timeout=t.deadline.left())
        text = talk.before.replace("\r\n", "\n")
    finally:
        box.kill()
    for name in WAYS:
        mine = rf"^\[{name}\] "
        counts = [int(n) for n in re.findall(mine + r"# reset (\d+)$", text, re.MULTILINE)]
        t.sub(f"{name}: {times}", counts == list(range(1, times + 1)), f"the resets seen are {counts}")
        for what in ("XMM7", "memory"):
            good = len(re.findall(mine + rf"ok {what} is 0 after a reset$", text, re.MULTILINE))
            t.sub(f"{name}: {what}", good == times + 1, f"as new {good} times of {times + 1}")
    t.expect(text, r"vm triple-fault: stopped: vCPU 0: triple fault at rip \w+, code 0f 0b( \w\w){6}$",
             "the reason of a crash, with the instruction")
    t.check("not ok" not in text, "a check of a guest has failed")
    t.check("PANIC" not in text, "Roost panicked")


@on_machines("resets", limit=120, suite="sched")
def resets(t, cpu):
    each_way_of_reset(t, cpu)


@test("sched/resets@max", limit=120, needs=NEEDS)
def resets_max(t):
    each_way_of_reset(t, machine.MAX)


def counted_shares(t, config, **kwargs):
    """What each VM has counted, by name; the one without a name in front of its lines is the first."""
    text = run(t, config, counted=True, **kwargs)[1]
    shares = {name or "a": int(count) for name, count in
              re.findall(r"^(?:\[(\w)\] )?# counted (\d+)$", text, re.MULTILINE)}
    return shares


def check_shares(t, shares, wanted):
    """Within 5 percent of wanted, which is in proportion."""
    t.check(sorted(shares) == sorted(wanted), f"only {sorted(shares)} have counted")
    scale = sum(shares.values()) / sum(wanted.values())
    for name, share in wanted.items():
        off = shares[name] / (share * scale) - 1
        t.note(f"{name}: {100 * off:+.1f} % off its share")
        t.sub(f"{name} has its share within 5 %", abs(off) <= 0.05, f"{100 * off:+.1f} %")


@on_machines("equal-shares", limit=300, suite="sched")
def equal_shares(t, cpu):
    """Four VMs of two vCPUs each, all of which spin: the same for each."""
    names = "abcd"
    shares = counted_shares(t, "".join(vm(n, "spin=2000", cpus=2) for n in names), cpu=cpu)
    check_shares(t, shares, dict.fromkeys(names, 1))


def run_times(console):
    """Microseconds that each VM has run so far."""
    times = {}
    for name, us in re.findall(r"^vm (\w), vCPU \d, CPU \d: ran (\d+) us",
                               console.command("sched"), re.MULTILINE):
        times[name] = times.get(name, 0) + int(us)
    return times


# A sum of floating-point numbers over and over, which is always the same.
SUM = ("""awk 'BEGIN { for (;;) { s = 0; for (i = 1; i < 20000; i++) s += i / (i + 0.5) * 1.25 / 3; """
       """if (n++ && s != first) print "WRONG", s; first = s } }' &""")


class Guests:
    """Linux guests at Roost's console."""

    def __init__(self, t, console, names):
        self.t, self.console, self.names = t, console, names

    def each(self, line, pattern, what):
        """Types a line at each one, and waits for what it says; those matches."""
        found = {}
        for name in self.names:
            self.console.talk.send(f"attach {name}\r")
            self.console.expect(r"has the console now.*\r\nok\r\n", f"the console of {name}")
            self.console.talk.send(line)
            found[name] = self.console.expect(pattern, f"{what} of {name}")
            self.console.talk.send(DETACH)
        return found


def let_run(console, seconds, cpus=2):
    """Waits until the VMs have run for so long; what each one has run by then. It is Roost's time, which
    on Bochs is that of the instructions."""
    begin = run_times(console)
    while True:
        time.sleep(0.5)
        now = run_times(console)
        if sum(now.values()) - sum(begin.values()) >= seconds * 1e6 * cpus:
            return {name: now[name] - begin.get(name, 0) for name in now}


def linux_machine(t, names, cpu, size):
    """Roost with Linux guests of two vCPUs each on two CPUs, and T-F1 as another module."""
    memory = machine.host_memory(len(names) * size + (64 << 20), machine.KERNEL, machine.INITRD)
    words = "on-idle=shell"
    if cpu in bochs.MODELS:
        need_bochs(t)
        box = bochs.Bochs(t.dir / "machine", cpu=cpu, cpus=2, memory=memory, limit=t.deadline.left(),
                          time0=int(time.time()))
        words += f" {bochs.NO_VIRTUAL}"
    else:
        box = machine.Machine(t.dir / "machine", cpu=cpu, cpus=2, options=["-rtc", "base=utc"],
                              memory=memory).spare_first_cpu()
    config = "".join(machine.guest_config(name, kernel="kernel", initrd="initrd", cpus=2,
                                          cmdline=machine.GUEST_CMDLINE, memory=f"{size >> 20}M")
                     for name in names)
    return box.roost(words, [box.stage("kernel", machine.KERNEL), box.stage("initrd", machine.INITRD),
                             box.stage("fpu", guest_image("fpu")), box.configure(config)])


def idle_exits(t, console, names):
    """Exits a second of VMs that have been idle for a while: fewer than 20 each on average."""
    time.sleep(30)
    console.command("stat")
    time.sleep(20)
    rates = re.findall(r" (\d+)/s  vm (\w), vCPU \d$", console.command("stat"), re.MULTILINE)
    idle = [sum(int(rate) for rate, vm_name in rates if vm_name == name) for name in names]
    t.note(f"{idle} exits a second when idle")
    t.check(sum(idle) / len(idle) < 20, f"{idle} exits a second when idle")


def vectors_beside(t, console, names, cpus):
    """T-F1 beside the first of the VMs, on these two CPUs."""
    first, second = cpus
    for name in names[1:]:
        console.command(f"vm pause {name}")
    for name, pin in (("e", first), ("f", first), ("g", f"{first},{second}")):
        console.command(f"vm create {name} kernel=fpu memory=8M cpus=2 debug-exit=yes pin={pin}")
    for name in "efg":
        console.command(f"vm start {name}")
    console.shows("vm show e", rf"^  vCPU 0: CPU {first}, .*\n  vCPU 1: CPU {first}, ")
    ended = {}
    while len(ended) < 3:
        match = console.expect(r"\[(\w)\] RESULT fpu: (\d+) passed, (\d+) failed", "T-F1")
        ended[match.group(1)] = int(match.group(3))
    t.sub("T-F1", not any(ended.values()), f"checks that failed: {ended}")


def many_linux(t, names, cpu, size):
    """Linux guests of two vCPUs each on two CPUs: all reach their shells; while all of them
    calculate, each gets its part of the time of 10 s; no vector register is ever wrong, neither
    theirs nor those of guests that look at nothing else (T-F1), of which two are pinned and one goes
    from CPU to CPU; and no kernel complains."""
    box = linux_machine(t, names, cpu, size)
    talk = box.spawn(t.log, t.deadline.left())
    try:
        begin = time.monotonic()
        console = Console(t, talk).begin(detach=f"vm {names[-1]}: started")
        guests = Guests(t, console, names)
        guests.each("", "guest# ", "the prompt")
        t.note(f"{len(names)} shells after {time.monotonic() - begin:.1f} s")
        idle_exits(t, console, names)
        guests.each(f"stty -echo; {SUM} {SUM} nproc; echo ru''ns\r", r"\b2\r\nruns\r\n", "two CPUs")
        # A computer that is busy itself may hold up one of the emulator's CPUs, but not three times.
        for _ in range(3):
            let_run(console, 2)
            got = let_run(console, 10)
            even = sum(got.values()) / len(names)
            if all(0.95 * even < us < 1.05 * even for us in got.values()):
                break
        check_shares(t, got, dict.fromkeys(names, 1))
        found = guests.each(f"pidof awk | wc -w; {COMPLAINTS} | wc -l; echo en''d\r",
                            r"(\d)\r\n(\d+)\r\nend\r\n", "its state")
        for name, match in found.items():
            t.sub(f"{name}: its work goes on", match.group(1) == "2", f"{match.group(1)} processes do")
            t.sub(f"{name}: its kernel is content", match.group(2) == "0", "it complains")
        vectors_beside(t, console, names, box.guest_cpus)
        text = t.log.read_text(errors="replace")
        t.check(not re.search(r"^(\[\w\] )?WRONG", text, re.MULTILINE), "a sum has come out wrong")
    finally:
        box.kill()


@test("sched/four-linux", limit=900, cores=0, needs=LINUX_NEEDS)
def four_linux(t):
    many_linux(t, "abcd", machine.MAX, 160 << 20)


@test("intel/sched-four-linux", limit=1800, needs=LINUX_NEEDS)
def four_linux_intel(t):
    many_linux(t, "abcd", bochs.SKYLAKE, 128 << 20)


def equal_time(t, cpu):
    """The same on two CPUs: by the time that Roost has given to each within 10 s."""
    names = "abcd"
    box = boot(t, "".join(vm(n, spinning(cpu, 300000), cpus=2) for n in names), host_cpus=2,
               words="on-idle=shell", cpu=cpu)
    talk = box.spawn(t.log, t.deadline.left())
    try:
        console = Console(t, talk).begin(detach="vm d: started")
        let_run(console, 15 if cpu not in bochs.MODELS else 3)  # until all spin
        check_shares(t, let_run(console, 10), dict.fromkeys(names, 1))
        # Three and five for a moment are no mistake: they take turns at changing the CPU.
        lists = [console.command("cpu list") for _ in range(10)]
        even = sum(text.count("4 vCPUs") == 2 for text in lists)
        t.check(even >= 5, f"the vCPUs are not spread evenly, {even} times of 10: {lists[-1]}")
    finally:
        box.kill()


@test("sched/equal-time-on-two-cpus", limit=120, cores=0, needs=NEEDS)
def equal_time_amd(t):
    """The machine follows this computer's clock."""
    equal_time(t, machine.EPYC)


@test("intel/sched-equal-time-on-two-cpus", limit=600, needs=NEEDS)
def equal_time_intel(t):
    need_bochs(t)
    equal_time(t, bochs.SKYLAKE)


@test("intel/sched-speculation", limit=200, needs=NEEDS)
def speculation(t):
    """Two VMs take turns on a processor with barriers against speculation: it takes all of them."""
    need_bochs(t)
    words = spinning(bochs.ICELAKE, 200)
    status, text = run(t, vm("a", words) + vm("b", words), cpu=bochs.ICELAKE)
    t.check(status == 0, "the machine did not end by itself")
    t.expect(text, r"^\[roost\] speculation: between VMs: IBPB; for Roost: IBRS$", "what it has")
    for name in "ab":
        t.expect(text, rf"vm {name}: debug exit 0", f"the end of {name}")


@on_machines("weights-and-caps", limit=300, suite="sched")
def weights_and_caps(t, cpu):
    """Weights of 50, 100, the latter shared by two vCPUs, and 200, and a cap of 10 percent of the
    CPU."""
    shares = counted_shares(t, vm("a", "spin=3000", weight=50) + vm("b", "spin=3000", cpus=2) +
                            vm("c", "spin=3000", weight=200) +
                            vm("d", "spin=3000", weight=10000, cap=10), cpu=cpu)
    rest = 90 / 350
    check_shares(t, shares, {"a": 50 * rest, "b": 100 * rest, "c": 200 * rest, "d": 10})


def flood_test(flood):
    @on_machines(f"answers-beside-{flood}", limit=400, suite="sched")
    def answers(t, cpu):
        """One that sleeps and has to answer, beside two vCPUs on its CPU that flood Roost: but for
        its start, where it is busy itself, it is never more than 1 ms late."""
        # Bochs does not end a guest with interrupts off for one of the host.
        words = f"flood={flood}" + (" sti" if cpu != machine.EPYC else "")
        box = boot(t, vm("a", "answer=20") + vm("b", words, cpus=2), counted=True, cpu=cpu)
        talk = box.spawn(t.log, t.deadline.left())
        try:
            talk.expect(r"# answered (\d+) times, (\d+) late by more than 1 ms, at worst (\d+) us",
                        timeout=t.deadline.left())
            times, late, worst = (int(x) for x in talk.match.groups())
            t.note(f"{late} of {times} late, by {worst} us at worst")
            t.check(times == 20, f"only {times} answers")
            t.check(late <= 1, f"{late} of {times} were late by more than 1 ms")
        finally:
            box.kill()


for each_flood in ("timer", "ipi", "uart", "pause"):
    flood_test(each_flood)


@on_machines("memory-runs-out", limit=120, quick=True, suite="sched")
def memory_runs_out(t, cpu):
    """VMs until there is no memory: those for which there is none are refused, with how much was
    wanted and how much there is; the others run to their end."""
    names = [f"v{i}" for i in range(12)]
    status, text = run(t, "".join(vm(n, "spin=20", memory="40M") for n in names), host_cpus=2,
                       memory=256 << 20, cpu=cpu)
    refused = re.findall(r"error: vm (v\d+): not enough memory: 40960 KiB wanted, "
                         r"\d+ KiB free$", text, re.MULTILINE)
    ended = re.findall(r"vm (v\d+): debug exit \d$", text, re.MULTILINE)
    t.note(f"{len(ended)} of {len(names)} VMs ran, {len(refused)} were refused")
    t.check(ended and refused, "all ran, or none")
    t.check(sorted(refused + ended) == sorted(names), "some neither ran nor were refused")
    t.check(status == 35 or cpu != machine.EPYC, f"the emulator ended with status {status}")


class LargeVm:
    """The life of a VM with much memory beside one on the same CPU, which is never held up for more
    than 1.5 million instructions, while the console answers all the time."""

    def __init__(self, t, console, cpu, name, size):
        self.t, self.console, self.name, self.size = t, console, name, size
        # So fast are the emulators' CPUs when they count instructions.
        self.most = 15000 if cpu in bochs.MODELS else 1500
        self.gap()

    def gap(self):
        self.console.talk.send("send k x\r")
        return int(self.console.expect(r"# gap (\d+) us\r\n", "the longest gap").group(1))

    def state(self):
        found = re.search(rf"^{self.name} +(\w+) ", self.console.command("vm list"), re.MULTILINE)
        return found and found.group(1)

    def step(self, line, states):
        """A command with the VM's name, after which it is to be seen in some of these states."""
        self.console.command(line)
        seen, state = set(), ""
        while state not in ("created", "running", None):
            state = self.state()
            if state == "dying" and state not in seen:
                self.console.wrong(f"vm start {self.name}", f"'{self.name}' is being destroyed")
                self.console.wrong(f"vm create {self.name} kernel=halt memory=4M",
                                   f"there is a VM {self.name} already")
            seen.add(state)
        self.t.check(seen <= states and (len(states) == 1 or seen & {"starting", "dying"}),
                     f"`{line}`: {seen} have been seen")
        longest = self.gap()
        self.t.note(f"{line}, {self.size}: {longest} us")
        self.t.sub(line, longest <= self.most, f"held up for {longest} us")

    def create(self):
        self.step(f"vm create {self.name} kernel=halt memory={self.size}", {"created"})

    def whole_life(self):
        self.create()
        self.step(f"vm start {self.name}", {"starting", "running"})
        self.step(f"vm reset {self.name}", {"stopping", "starting", "running"})
        self.step(f"vm destroy {self.name}", {"dying", None})


def large_machine(t, cpu, memory):
    return test_guest(t, LIFE, cpu=cpu, memory=memory, words="on-idle=shell",
                      config=vm("k", "gaps" + (" sti" if cpu in bochs.MODELS else "")),
                      extra=[("halt", images.dead_halt())],
                      options=machine.COUNTED)


@test("sched/large-vm", limit=400, needs=NEEDS)
def large_vm(t):
    """A VM of 4 GiB is made, started, reset and destroyed."""
    size = 4 << 30
    available = int(re.search(r"MemAvailable: +(\d+)", open("/proc/meminfo").read()).group(1)) << 10
    if available < size + (2 << 30):
        t.skip("this computer has too little memory free")
    run_with(t, large_machine(t, machine.EPYC, size + (32 << 20)),
             lambda console: LargeVm(t, console, machine.EPYC, "big", "4G").whole_life(), detach="vm k: started")


@test("intel/sched-large-vm", limit=900, needs=NEEDS)
def large_vm_intel(t):
    """The same with 1.5 GiB; then one of 4 GiB is made."""
    def script(console):
        LargeVm(t, console, bochs.SKYLAKE, "big", "1536M").whole_life()
        LargeVm(t, console, bochs.SKYLAKE, "bigger", "4G").create()

    need_bochs(t)
    # Of 6 GiB there, 5 are usable.
    run_with(t, large_machine(t, bochs.SKYLAKE, 6 << 30), script, detach="vm k: started")
    t.sub_skip("start, reset and end of a VM of 4 GiB", "they clear its memory, of which Bochs holds 2 GiB")


@on_machines("crash-is-kept", limit=60, quick=True, suite="sched")
def crash_is_kept(t, cpu):
    """on-crash = pause and stop beside one that goes on to its end."""
    status, text = run(t, vm("a", "spin=300") + vm("b", "resets=6", on_crash="pause") +
                  vm("c", "resets=6", on_crash="stop"), host_cpus=2, cpu=cpu)
    for name in "bc":
        t.check(len(re.findall(rf"^\[{name}\] # reset", text, re.MULTILINE)) == 6,
                f"{name} did not get as far as its triple fault")
        t.expect(text, rf"vm {name}: stopped: vCPU 0: triple fault", f"the crash of {name}")
    t.expect(text, r"vm a: debug exit 0", "the end of the other one")
    t.expect(text, r"no guest is running", "the end of all")
    t.check(status == 35 or cpu != machine.EPYC, f"the emulator ended with status {status}")


# What is asked for at any moment, with the numbers of two CPUs; some is refused in the state that the
# VM happens to be in.
DISTURBANCES = ["vm pause v", "vm resume v", "vm reset v", "vm stop v", "vm start v", "vm shutdown v",
                "vm set v weight=7", "vm set v pin={first}", "vm set v pin={second} cap=30", "vm set v cap=0"]
WORK = ["spin=100000", "flood=ipi", "flood=timer", "flood=pause", "answer=1000", "resets=200"]


def slowly(send):
    """Half of what a UART's FIFO holds at a time: a guest that is reset again and again keeps interrupts
    off for so long on Bochs that a whole line would overrun it."""
    def paced(text):
        for at in range(0, len(text), 8):
            send(text[at:at + 8])
            time.sleep(0.005)
    return paced


@on_machines("hundred-lives", limit=400, suite="sched")
def hundred_lives(t, cpu):
    """A hundred VMs, one after the other, are made, started, disturbed and destroyed beside one that
    runs all the time: each time all the memory is back, and the other one goes on."""
    chance = random.Random(1)
    sti = " sti" if cpu in bochs.MODELS else ""
    box = boot(t, vm("k", spinning(cpu, 3000000), cpus=2), host_cpus=2, words="on-idle=shell", cpu=cpu)
    talk = box.spawn(t.log, t.deadline.left())
    first, second = box.guest_cpus
    if cpu in bochs.MODELS:
        talk.send = slowly(talk.send)

    def free():
        return int(re.search(r"(\d+) KiB free", console.command("memory")).group(1))

    try:
        console = Console(t, talk).begin(detach="vm k: started")
        before, refused = free(), 0
        for life in range(100):
            work, cpus, size = chance.choice(WORK), chance.randint(1, 3), chance.choice([8, 12, 32])
            console.command(f'vm create v kernel=guest.elf memory={size}M cpus={cpus} '
                            f'pin={first},{second} on-crash=reset cmdline="{work}{sti}"')
            t.check(free() < before, "a VM takes no memory")
            console.command("vm start v")
            time.sleep(chance.random() / 5)
            for line in chance.sample(DISTURBANCES, 3):
                line = line.format(first=first, second=second)
                talk.send(line + "\r")
                refused += console.answer(line)[1] is not None
            ran = run_times(console)["k"]
            console.command("vm destroy v")
            for _ in range(200):
                if not re.search(r"^v ", console.command("vm list"), re.MULTILINE):
                    break
                time.sleep(0.02)
            t.check(free() == before, f"life {life} ({work}, {cpus} vCPUs): {before - free()} KiB "
                                      "are missing")
        t.check(run_times(console)["k"] > ran, "the other one does not run any more")
        t.check(0 < refused < 300, f"{refused} of 300 requests were refused")
        t.note(f"{refused} of 300 requests were refused in the state of the moment")
    finally:
        box.kill()
