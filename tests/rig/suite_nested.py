"""Hypervisors as guests, and their guests in turn: Linux' KVM with a small machine monitor."""

import hashlib
import os
import re
import time

import machine
from guests import MODELS, Shell, guest_image, test_guest, with_machine
from harness import test
from suite_console import Console
from suite_linux import copy_data, files_and_processes, no_complaints, script

INITRD = machine.BUILD / "nested" / "initrd.img"
L1_MEMORY = 640 << 20
LONG = bool(os.environ.get("LONG"))
LONG_ROUNDS = 100_000


@test("build/nested-files", limit=120, needs=("build/guest-files",))
def nested_files(t):
    t.make(f"BUILD={machine.BUILD}", "nested-files")


def kvm_machine(t, words, cpus=1, initrd=INITRD, memory=L1_MEMORY):
    """Roost with a Linux that loads KVM and does as these words say: tools/nested/job."""
    return machine.linux_guest(t.dir / "machine", initrd=initrd, cpu=machine.MAX, cpus=cpus,
                               cmdline=f"{machine.GUEST_CMDLINE} job=nested {words}",
                               memory=memory, options=["-rtc", "base=utc",
                                                       *(machine.ONE_THREAD if cpus > 1 else ())])


def kvm_session(t, box, cpus, npt, qemu):
    """Debian's kernel as L2 to its shell, the same script as one level below, power-off."""
    import pexpect

    talk = box.spawn(t.log, t.deadline.left())
    sh = Shell(t, talk)
    sh.expect(rf"L1: KVM 0 npt {'NY'[npt]}", "the modules of KVM")
    if not qemu:
        sh.expect(rf"monitor: {cpus} vCPUs", "the machine monitor")
    sh.begin()
    script(sh, t, cpus, mib=8, lag=4)
    talk.sendline("poweroff")
    if not qemu:
        sh.expect("monitor: the guest has powered off", "L2's end")
    sh.expect("L1: monitor 0\r?\n", "the monitor's end")
    rest = talk.expect([r"\[[ \d.]+\] reboot: Power down", pexpect.EOF])
    t.check(rest == 0, f"L1 does not power off: {talk.before[-200:]}")
    said = talk.before.strip()
    t.check(not said, f"L1's kernel complains: {said[:200]}")
    talk.expect(pexpect.EOF)
    t.check(box.wait(30) == 0, "the run did not end cleanly")


def kvm_test(name, npt, cpus, limit, qemu=False):
    @test(f"nested/{name}@max", limit=limit, cores=0, needs=("build/gcc", "build/nested-files"))
    def run(t):
        words = f"kvm=npt={npt} l2-cpus={cpus}" + (" l2=qemu" if qemu else "")
        if qemu:
            t.make(f"BUILD={machine.BUILD}", "nested-qemu")
        with_machine(t, lambda: kvm_machine(t, words, cpus,
                                            INITRD.with_name("qemu.img") if qemu else INITRD,
                                            L1_MEMORY + (360 << 20 if qemu else 0)),
                     lambda box: kvm_session(t, box, cpus, npt, qemu))


kvm_test("kvm-npt1", 1, 1, 300)
kvm_test("kvm-npt1-2-cpu", 1, 2, 300)
kvm_test("kvm-qemu", 1, 1, 600, qemu=True)
kvm_test("kvm-qemu-npt0-2-cpu", 0, 2, 900, qemu=True)
kvm_test("kvm-npt0", 0, 1, 400)
kvm_test("kvm-npt0-2-cpu", 0, 2, 600)


def sum_of(first):
    """What `seq FIRST 20000 | sort -n | md5sum` says."""
    return hashlib.md5("".join(f"{n}\n" for n in range(first, 20001)).encode()).hexdigest()


SEVERAL = {"p": (3,), "q": (4,), "a": (1, 2), "b": (1, 2)}  # VM: what its shells are given


def several_machine(t):
    box = machine.Machine(t.dir / "machine", cpu=machine.MAX, cpus=2, memory=1400 << 20,
                          options=["-rtc", "base=utc", *machine.ONE_THREAD])
    modules = [box.stage(name, path) for name, path in
               (("kernel", machine.KERNEL), ("plain", machine.INITRD), ("nested", INITRD))]
    config = "".join(machine.guest_config(name, kernel="kernel", initrd="plain", memory="128M",
                                          cmdline=machine.GUEST_CMDLINE) for name in "pq")
    config += "".join(
        machine.guest_config(name, kernel="kernel", initrd="nested", memory="400M", cpus=2,
                             cmdline=f"{machine.GUEST_CMDLINE} job=nested kvm=npt={npt} l2=pair "
                                     "l2-memory=96")
        for name, npt in (("a", 1), ("b", 0)))
    return box.roost("on-idle=poweroff", [*modules, box.stage("roost.conf", config)])


def several_session(t, box):
    """What each VM has said. The plain guests are typed at from Roost's shell, the L2s by
    tools/nested/job in their L1s. The first guest has the console, and no name in front of its lines,
    until Roost's shell is asked for."""
    import pexpect

    log = open(t.log, encoding="utf-8", errors="replace")
    talk = box.spawn(t.log, t.deadline.left())
    sh = Shell(t, talk)
    log.seek(0, os.SEEK_END)
    for attached in (True, False):
        name = sh.expect(r"(?:\[(\w+)\] )?To leave, type poweroff", "a plain guest's shell").group(1)
        if attached:
            talk.send("\x1d")
            sh.expect("roost> ", "Roost's shell")
        name = name or "p"
        talk.send(f"send {name} seq {SEVERAL[name][0]} 20000 | sort -n | md5sum | sed s/^/sum:/; "
                  "poweroff\r")
    talk.expect(pexpect.EOF, timeout=t.deadline.left())
    t.check(box.wait(30) == 0, "the run did not end cleanly")
    text = log.read()
    t.check(not re.search(r"PANIC|\[roost\] (warning|error)|BUG:|WARNING:|Oops", text),
            "somebody complains")
    # Lines may be in several parts.
    said = {name: "".join(re.findall(rf"^\[{name}\] (.*?)\r?$", text, re.MULTILINE)) for name in SEVERAL}
    said["roost"] = text
    return said


@test("nested/several-hypervisors@max", limit=900, cores=0,
      needs=("build/gcc", "build/guest-files", "build/nested-files"))
def several_hypervisors(t):
    """Two Linux with KVM and two guests each, one of them without nested paging, beside two Linux
    without, on two processors: all six come to their shell, compute there, and end."""
    said = with_machine(t, lambda: several_machine(t), lambda box: several_session(t, box))
    for name, numbers in SEVERAL.items():
        for n in numbers:
            l2 = f"L2 {n}" if len(numbers) > 1 else "the shell"
            lead = f"L2 {n}: " if len(numbers) > 1 else ""
            t.sub(f"{name}, {l2} computes", f"{lead}sum:{sum_of(n)} " in said[name])
            if lead:
                t.sub(f"{name}, {l2} powers off", f"{lead}monitor: the guest has powered off" in said[name])
        t.sub(f"{name} ends", f"vm {name}: powered off" in said["roost"])
    for name, paging in (("a", "Y"), ("b", "N")):
        t.sub(f"{name}: KVM", f"L1: KVM 0 npt {paging}" in said[name])
        t.sub(f"{name}: its monitors end well", "L1: monitor 0" in said[name])


def roost_machine(t, cpu, modules, inner, memory):
    """Roost with a Roost as its guest, which gets these modules: (name, file), and as its boot loader
    would say it, a list of their names with arguments."""
    box = machine.Machine(t.dir / "machine", cpu=cpu, memory=memory)
    names = [box.stage(name, path) for name, path in modules]
    config = machine.guest_config("outer", kernel="roost.img", cmdline="on-idle=poweroff", modules=inner)
    return box.roost("on-idle=poweroff", [*names, box.stage("roost.conf", config)])


def three_roosts(t, box, guest, least):
    """Runs Roost in Roost in Roost, whose guest is a hypervisor itself, with at least so many checks."""
    status, text = box.run(t.log, t.deadline.left())
    t.check(text.count("Roost 0.1, loaded by Roost") == 2, "there are not two inner Roosts")
    t.check(not re.search(r"\[roost\] (warning|error)|PANIC", text), "a Roost complains")
    result = t.expect(text, rf"^RESULT {guest}: (\d+) passed, (\d+) failed", "the guest's end")
    t.check(int(result[1]) > least and result[2] == "0", result[0])
    t.expect(text, "vm outer: powered off", "the end of the inner Roosts")
    t.check(status == 0, f"the run ended with {status}")


for each_model, each_cpu in MODELS.items():
    @test(f"nested/roost-linux@{each_model}", limit=600, cores=0,
          needs=("build/gcc", "build/guest-files"))
    def roost_linux(t, cpu=each_cpu):
        """Linux in Roost in Roost: to its shell, some commands, power-off of all three."""
        box = roost_machine(t, cpu, [("roost.img", machine.IMAGE), ("kernel", machine.KERNEL),
                                     ("initrd", machine.INITRD)],
                            f'"kernel {machine.GUEST_CMDLINE}",initrd', 900 << 20)
        talk = box.spawn(t.log, t.deadline.left())
        try:
            sh = Shell(t, talk)
            sh.expect("Roost .* loaded by Roost", "the inner Roost")
            sh.begin()
            copy_data(sh, t, 8)
            files_and_processes(sh, t)
            no_complaints(sh, t)
            talk.sendline("poweroff")
            sh.expect("vm vm0: powered off", "Linux' end, in the inner Roost")
            sh.expect("vm outer: powered off", "the inner Roost's end")
            t.check(box.wait(30) == 0, "poweroff did not end the run cleanly")
        finally:
            box.kill()

    @test(f"nested/roost-roost-roost@{each_model}", limit=600,
          needs=("build/gcc", "build/guest-tests"))
    def roost_roost(t, cpu=each_cpu):
        """Roost in Roost in Roost, with a guest test that is a hypervisor itself."""
        guest = "svm_vmrun"
        box = roost_machine(t, cpu, [("roost.img", machine.IMAGE), ("guest.elf", guest_image(guest))],
                            '"roost.img on-idle=poweroff",guest.elf', 400 << 20)
        three_roosts(t, box, guest, 300)


@test("nested/two-hypervisors@max", limit=300, needs=("build/gcc", "build/guest-tests"))
def two_hypervisors(t):
    """Two hypervisors as guests that share a processor, each with L2s that do what they like."""
    config = "".join(machine.guest_config(f"test{i}", kernel="guest.elf", memory="64M", debug_exit="yes",
                                          cmdline=f"rounds=2000 seed={i + 1}") for i in range(2))
    box = test_guest(t, guest_image("svm_hostile"), cpu=machine.MAX, memory=192 << 20, config=config,
                     options=machine.COUNTED)
    _, text = box.run(t.log, t.deadline.left())
    for i in range(2):
        t.sub(f"hypervisor {i}", re.search(rf"vm test{i}: debug exit 0", text))


class DirtyGuest:
    """guest-tests/svm_dirty.c at work, told what to do and watched from Roost's shell."""

    def __init__(self, t, console):
        self.console = console
        self.lines = ""
        where = console.expect(r"window (\w+) table (\w+) block (\w+)\r?\n", "the guest")
        self.window, self.table, self.block = (int(x, 16) for x in where.groups())
        console.talk.send("\x1d")
        console.begin()
        console.command("vm dirty test on")

    def do(self, letter, pattern):
        """The guest's answer, which may come before or after the shell's."""
        self.console.talk.send(f"send test {letter}\r")
        lines = ""
        while True:
            lines += self.console.expect(r"[^\n]*\n", f"the answer to {letter}").group(0)
            found = re.search(pattern, lines)
            if found and re.search(r"^ok\r?$", lines, re.MULTILINE):
                return found

    def log(self):
        """The pages written: {address of the first of 64: bits}."""
        text = self.console.command("vm dirty test get")
        return {int(a, 16): int(bits, 16)
                for a, bits in re.findall(r"^(\w{12}) (\w{16})$", text, re.MULTILINE)}

    def round(self, number):
        """(whether the log was right, whether Roost wrote into L1's table)"""
        if number % 4 == 0:
            self.do("c", "cleared")
            self.log()
        pages, table, wrong = self.do("wwwf"[number % 4], r"wrote (\w+) table (\d) wrong (\d+)").groups()
        log = self.log()
        seen = [log.get(a & ~0x3ffff, 0) >> (a >> 12 & 63) & 1 for a in (self.table, self.block)]
        strange = [a for a in log if a > DIRTY_END and a != self.window]
        return (wrong == "0" and log.get(self.window, 0) == int(pages, 16) and
                seen == [int(table), 1] and not strange), int(table)


DIRTY_END = 8 << 20  # of the guest's image, where all is that L1 itself writes


@test("nested/dirty-log@max", limit=3600 if LONG else 120, cores=0,
      needs=("build/gcc", "build/guest-tests"))
def dirty_log(t):
    """T-P8: L2 writes, and the log shows just these pages, L1's table when Roost has set a bit there,
    and the control block."""
    box = test_guest(t, guest_image("svm_dirty"), cpu=machine.MAX, host_cpus=2)
    talk = box.spawn(t.log, t.deadline.left())
    rounds = LONG_ROUNDS if LONG else 300
    try:
        guest = DirtyGuest(t, Console(t, talk))
        right, noted = map(sum, zip(*(guest.round(n) for n in range(rounds))))
        talk.send("send test q\r")
        guest.console.expect("RESULT svm_dirty: 1 passed, 0 failed", "the guest's end")
    finally:
        box.kill()
    t.note(f"{rounds} rounds, {noted} with a bit set in L1's table")
    t.sub("T-P8: rounds of which the log is right", right == rounds, f"{right} of {rounds}")
    t.sub("T-P8: bits were set in L1's table", noted >= rounds / 8)


def free_memory(console):
    return int(re.search(r"(\d+) KiB free", console.command("memory")).group(1))


@test("nested/terabyte@max", limit=120, cores=0, needs=("build/gcc", "build/guest-tests"))
def terabyte(t):
    """An L2 that reads all over a terabyte costs some pages that are used again and again."""
    box = test_guest(t, guest_image("svm_dirty"), cpu=machine.MAX, host_cpus=2)
    talk = box.spawn(t.log, t.deadline.left())
    try:
        guest = DirtyGuest(t, Console(t, talk))
        free = [free_memory(guest.console)]
        for _ in range(3):
            got = guest.do("t", r"read (\d+) exit (\w+)").groups()
            t.check(got == ("20000", "81"), f"L2 read {got[0]} times, exit {got[1]}")
            free.append(free_memory(guest.console))
    finally:
        box.kill()
    t.note(f"{free[0] - free[-1]} KiB taken")
    t.sub("it takes less than 4 MiB for 64 MiB of memory", free[0] - free[1] < 4096)
    t.sub("and then no more", free[1] == free[2] == free[3])


@test("nested/lives@max", limit=300, cores=0, needs=("build/gcc", "build/guest-tests"))
def lives(t):
    """Hypervisors are paused, reset and destroyed while their L2s run, beside another one: all of
    their memory comes back each time, and the other one goes on."""
    image = guest_image("svm_hostile")
    config = machine.guest_config("test", kernel="guest.elf", memory="64M", debug_exit="yes",
                                  cmdline="rounds=1000000000")
    box = test_guest(t, image, cpu=machine.MAX, host_cpus=2, config=config, words="on-idle=shell",
                     extra=[("smp.elf", guest_image("svm_smp").read_bytes())])
    box.memory += 256 << 20
    talk = box.spawn(t.log, t.deadline.left())
    try:
        console = Console(t, talk).begin(detach="L2 goes on with it")
        time.sleep(3)  # until the shadow of its tables has all the pages that it needs
        free, right = free_memory(console), 0
        for life in range(24):
            kernel, cpus = (("guest.elf", 1), ("smp.elf", 2))[life % 2]
            console.command(f'vm create v kernel={kernel} memory=96M cpus={cpus} pin={box.pin()} '
                            f'on-crash=pause cmdline="rounds=1000000 seed={life + 1}"')
            console.command("vm start v")
            console.expect(r"\[v\] ok (the other CPU runs an L2|L2 goes on with it)", "its L2s")
            time.sleep(life % 5 / 10)
            for command in ("vm pause v", "vm resume v", "vm reset v", "vm pause v")[life % 4:]:
                talk.send(command + "\r")
                console.answer(command)  # or a refusal, in the state of the moment
                time.sleep(life % 3 / 20)
            console.command("vm destroy v")
            for _ in range(200):
                if not re.search(r"^v ", console.command("vm list"), re.MULTILINE):
                    break
                time.sleep(0.02)
            right += free_memory(console) == free
        exits = [int(re.search(r"^ +(\d+) .* vm test, vCPU 0", console.command("stat test"),
                               re.MULTILINE)[1]) for _ in range(2) if not time.sleep(0.5)]
        t.check(exits[1] > exits[0], "the other one does not run any more")
    finally:
        box.kill()
    t.sub("lives after which all memory is back", right == 24, f"{right} of 24")


@test("nested/dirty-bits-long@max", limit=7200, cores=0, needs=("build/gcc", "build/guest-tests"))
def dirty_bits(t):
    """T-P4, as in guest/svm_smp, for long: L1 clears dirty bits under a running L2, and each page that
    changes has its bit."""
    if not LONG:
        t.skip("it takes an hour; LONG=1 asks for it")
    box = test_guest(t, guest_image("svm_smp"), cpu=machine.MAX, cpus=2, memory=96 << 20,
                     cmdline=f"dirty={LONG_ROUNDS}")
    _, text = box.run(t.log, t.deadline.left())
    for line in re.findall(r"^ok (T-P4.*)$", text, re.MULTILINE):
        t.sub(line, True)
    t.check(t.result.passed == 2 and "vm test: debug exit 0" in text, "it did not end well")


@test("nested/hostile-million@max", limit=5400, needs=("build/gcc", "build/guest-tests"))
def hostile_million(t):
    """A million rounds of svm_hostile, each ten thousand from a seed of their own. QEMU 7.2 itself
    may die of what an L2 does: that shows nothing, and may be seldom only."""
    if not LONG:
        t.skip("it takes an hour; LONG=1 asks for it")
    for seed in range(1, 101):
        box = test_guest(t, guest_image("svm_hostile"), cpu=machine.MAX, options=machine.COUNTED,
                         cmdline=f"rounds=10000 seed={seed}")
        status, text = box.run(t.log, t.deadline.left())
        if status is not None and status < 0:
            t.sub_skip(f"seed {seed}", f"the emulator dies of signal {-status}")
        else:
            t.sub(f"seed {seed}", "vm test: debug exit 0" in text and "PANIC" not in text)
    t.check(t.result.passed > 80, "the emulator dies too often")
