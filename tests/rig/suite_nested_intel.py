"""Hypervisors as guests on the Intel machine: Linux' KVM, and Roost itself. Bochs is slow: a run takes
minutes where the AMD machine's takes seconds, so there is one of each kind."""

import os
import re
import time

import bochs
import machine
from guests import Shell, guest_image, need_bochs, test_guest
from harness import test
from suite_console import Console
from suite_linux import script
from suite_nested import INITRD, three_roosts


def kvm_test(name, ept):
    @test(f"intel/nested-{name}", limit=1500, needs=("build/gcc", "build/nested-files"))
    def run(t):
        """Debian's kernel as L2 to its shell, the script of one level, power-off of both."""
        need_bochs(t)
        box = bochs.linux_guest(t.dir / "machine", initrd=INITRD, memory=256 << 20, limit=1500,
                                cmdline=f"{machine.GUEST_CMDLINE} job=nested kvm=ept={ept} "
                                        "l2-memory=80")
        talk = box.spawn(t.log, t.deadline.left())
        try:
            sh = Shell(t, talk)
            sh.expect(rf"L1: KVM 0 ept {'NY'[ept]}", "the modules of KVM")
            sh.expect(r"monitor: 1 vCPUs", "the machine monitor")
            sh.begin()
            script(sh, t, 1, mib=4, real_time=False)
            talk.sendline("poweroff")
            sh.expect("monitor: the guest has powered off", "L2's end")
            sh.expect("L1: monitor 0\r?\n", "the monitor's end")
            t.check(box.wait(300) == 0, "the run did not end cleanly")
        finally:
            box.kill()


kvm_test("kvm-ept1", 1)
kvm_test("kvm-ept0", 0)


def roost_machine(t, modules, inner, memory):
    """As that of the AMD machine: a Roost as Roost's guest, which gets these modules."""
    need_bochs(t)
    box = bochs.Bochs(t.dir / "machine", memory=memory + machine.host_memory(0, *(p for _, p in modules)),
                      limit=t.deadline.left())
    names = [box.stage(name, path) for name, path in modules]
    config = machine.guest_config("outer", kernel="roost.img", cmdline="on-idle=poweroff", modules=inner,
                                  memory=f"{memory >> 20}M")
    return box.roost(f"on-idle=poweroff {bochs.NO_VIRTUAL}", [*names, box.stage("roost.conf", config)])


@test("intel/nested-roost-roost", limit=600, needs=("build/gcc", "build/guest-tests"))
def roost_roost(t):
    """Roost in Roost, with a guest test in it."""
    box = roost_machine(t, [("roost.img", machine.IMAGE), ("guest.elf", guest_image("hello"))],
                        "guest.elf", 200 << 20)
    status, text = box.run(t.log, t.deadline.left())
    t.expect(text, "Roost .* loaded by Roost", "the inner Roost")
    t.expect(text, r"^RESULT hello: 1 passed, 0 failed", "the guest's end")
    t.expect(text, "vm outer: powered off", "the inner Roost's end")
    t.check(status is not None, "the run did not end in time")
    t.check("PANIC" not in text, "a Roost panicked")


@test("intel/nested-roost-roost-roost", limit=2400, needs=("build/gcc", "build/guest-tests"))
def roost_roost_roost(t):
    """Roost in Roost in Roost, with a guest test that is a hypervisor itself."""
    guest = "vmx_shadow"
    box = roost_machine(t, [("roost.img", machine.IMAGE), ("guest.elf", guest_image(guest))],
                        '"roost.img on-idle=poweroff",guest.elf', 280 << 20)
    three_roosts(t, box, guest, 50)


@test("intel/nested-roost-linux", limit=2400, needs=("build/gcc", "build/guest-files"))
def roost_linux(t):
    """Linux in Roost in Roost: to its shell, a command, power-off of all three."""
    box = roost_machine(t, [("roost.img", machine.IMAGE), ("kernel", machine.KERNEL),
                            ("initrd", machine.INITRD)],
                        f'"kernel {machine.GUEST_CMDLINE}",initrd', 330 << 20)
    talk = box.spawn(t.log, t.deadline.left())
    try:
        sh = Shell(t, talk)
        sh.expect("Roost .* loaded by Roost", "the inner Roost")
        sh.begin()
        text = sh.command("nproc; grep -c GenuineIntel /proc/cpuinfo")
        t.check(text.split() == ["1", "1"], f"Linux' processor is {text.split()}")
        talk.sendline("poweroff")
        sh.expect("vm vm0: powered off", "Linux' end, in the inner Roost")
        sh.expect("vm outer: powered off", "the inner Roost's end")
        t.check(box.wait(300) == 0, "poweroff did not end the run cleanly")
    finally:
        box.kill()


def abort_test(name, number, what):
    @test(f"intel/vmx-abort-{name}", limit=200, needs=("build/gcc", "build/guest-tests"))
    def run(t):
        """A list of MSRs of an exit that cannot be worked off ends the VM, as it turns off a processor."""
        box = test_guest(t, guest_image("vmx_bad"), cpu=bochs.SKYLAKE, cmdline=f"abort={number}")
        _, text = box.run(t.log, t.deadline.left())
        t.expect(text, f"vm test: stopped: vCPU 0: VMX abort: the MSR {what} of a VM exit failed",
                 "the end of the VM")
        t.check("PANIC" not in text and "RESULT" not in text, "it is not the end")


abort_test("loading", 1, "loading")
abort_test("storing", 2, "storing")
abort_test("too-long", 3, "storing")


@test("intel/lives-with-l2", limit=400, needs=("build/gcc", "build/guest-tests"))
def lives_with_l2(t):
    """A VM is paused, reset, stopped and destroyed while its L2 runs; all its memory comes back."""
    box = test_guest(t, guest_image("vmx_bad"), cpu=bochs.SKYLAKE, memory=32 << 20, name="v",
                     cmdline="spin=1", words="on-idle=shell")
    talk = box.spawn(t.log, t.deadline.left())

    def free():
        return int(re.search(r"(\d+) KiB free", console.command("memory")).group(1))

    try:
        console = Console(t, talk).begin(detach="# L2 spins")
        console.command("vm destroy v")
        time.sleep(1)
        before = free()
        for life in range(5):
            console.command("vm create v kernel=guest.elf memory=32M cmdline=spin=1")
            console.command("vm start v")
            console.expect("# L2 spins", "its L2")
            console.command("vm pause v")
            console.command("vm resume v")
            console.command("vm reset v")
            console.expect("# L2 spins", "its L2 after a reset")
            console.command("vm pause v" if life % 2 else "vm stop v")
            console.command("vm destroy v")
            for _ in range(100):
                if not re.search(r"^v ", console.command("vm list"), re.MULTILINE):
                    break
                time.sleep(0.05)
            t.check(free() == before, f"life {life}: {before - free()} KiB are missing")
    finally:
        box.kill()


def hostile(t, seeds, rounds):
    for seed in seeds:
        box = test_guest(t, guest_image("vmx_hostile"), cpu=bochs.SKYLAKE,
                         cmdline=f"rounds={rounds} seed={seed}")
        _, text = box.run(t.log, t.deadline.left())
        t.sub(f"seed {seed}", "vm test: debug exit 0" in text and "PANIC" not in text)


for each_part in range(1, 5):
    @test(f"intel/vmx_hostile-{each_part}", limit=900, needs=("build/gcc", "build/guest-tests"))
    def hostile_part(t, part=each_part):
        """Ten thousand rounds, together."""
        hostile(t, [part], 2500)


@test("intel/nested-hostile-million", limit=40000, needs=("build/gcc", "build/guest-tests"))
def hostile_million(t):
    """As that of the AMD machine."""
    if not os.environ.get("LONG"):
        t.skip("it takes hours; LONG=1 asks for it")
    hostile(t, range(1, 101), 10000)


WINDOW, MANY, NR_MANY = 16 << 20, 32 << 20, 1500  # as in guest-tests/vmx_dirty.c


def dirty_test(name, words=""):
    @test(f"intel/nested-{name}", limit=400, needs=("build/gcc", "build/guest-tests"))
    def run(t):
        """What the guest and its L2s write is in the log, page by page, and nothing else of there."""
        box = test_guest(t, guest_image("vmx_dirty"), cpu=bochs.SKYLAKE,
                         words=f"on-idle=poweroff {words}".rstrip())
        talk = box.spawn(t.log, t.deadline.left())
        try:
            c = Console(t, talk).begin(detach="ready L2 too")
            for on in range(2):
                c.command("vm dirty test on")
                for letter in "ggnenegvmgnvm" if on == 0 else "mgenv":
                    pages = told(c, letter)
                    log = log_of(c)
                    many = [log.get(a, 0) for a in range(MANY, MANY + NR_MANY * 4096, 64 * 4096)]
                    there = sum(word.bit_count() for word in many)
                    t.sub(f"log of {letter}", log.get(WINDOW, 0) == pages and
                          there == (NR_MANY if letter == "m" else 0), f"{log}, and not {pages:x}")
                    t.sub(f"twice, after {letter}", not {WINDOW, MANY} & set(log_of(c)))
                c.command("vm dirty test off")
            talk.send("send test q\r")
            c.expect("RESULT vmx_dirty: 2 passed, 0 failed", "the guest's end")
        finally:
            box.kill()


def told(console, letter):
    """Which pages the guest writes; its answer may come before or after the shell's."""
    console.talk.send(f"send test {letter}\r")
    lines = ""
    while not (re.search(r"^ok\r?$", lines, re.MULTILINE) and "wrote" in lines):
        lines += console.expect(r"[^\n]*\n", f"the answer to {letter}").group(0)
    return int(re.search(r"wrote (\w{16})", lines).group(1), 16)


def log_of(console):
    """The pages written: {address of the first of 64: bits}."""
    text = console.command("vm dirty test get")
    return {int(a, 16): int(bits, 16)
            for a, bits in re.findall(r"^(\w{12}) (\w{16})$", text, re.MULTILINE)}


dirty_test("dirty-log")
dirty_test("dirty-log-no-pml", "vmx=-pml")
