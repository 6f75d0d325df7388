"""The Intel machine: guest tests and Linux under Roost on Bochs, where Bochs and GRUB are there.

The same images as on the AMD machine. Bochs counts instructions, so a run does not depend on what
else this computer does, but it is slow: 30 to 90 million instructions a second.
"""

import re
import time

import bochs
import machine
from guests import Shell, guest_image
from harness import test
from suite_guest import NAMES, host_cpus, verdict, wishes

# Bochs has one thread for all its CPUs, and waits for whole seconds of emulated time.
LIMIT = 400
LINUX_MEMORY = 256 << 20


def need_bochs(t):
    lacking = bochs.missing()
    if lacking:
        t.skip("not installed: " + " ".join(lacking))


def run_guest(t, name, model, words=""):
    need_bochs(t)
    want = wishes(name)
    memory = machine.parse_size(want.get("memory", "64M"))
    image = guest_image(name)
    box = bochs.Bochs(t.dir / "machine", cpu=model, cpus=host_cpus(want), limit=LIMIT,
                      memory=max(256 << 20, machine.host_memory(memory, image)))
    config = machine.guest_config("test", kernel="guest.elf", cpus=want.get("cpus", 1),
                                  cmdline=want.get("cmdline", "").replace(",", " ") or None,
                                  memory=f"{memory >> 20}M", debug_exit="yes")
    modules = [box.stage("guest.elf", image), box.stage("roost.conf", config)]
    box.roost(f"on-idle=poweroff {words}", modules)
    status, text = box.run(t.log, t.deadline.left())
    t.check(status is not None, "the machine did not end in time")
    t.check("PANIC" not in text, "Roost panicked")
    ended = re.search(r"vm test: debug exit (\d+)", text)
    t.check(ended, "Roost reported no debug exit")
    return text, int(ended.group(1))


def guest_test(name, words="", suffix=""):
    @test(f"intel/{name}{suffix}", limit=LIMIT, needs=("build/gcc", "build/guest-tests"))
    def run(t):
        verdict(t, *run_guest(t, name, bochs.SKYLAKE, words))


@test("intel/failure-is-noticed", limit=120, needs=("build/gcc", "build/guest-tests"))
def failure_is_noticed(t):
    text, exit_value = run_guest(t, "fail", bochs.SKYLAKE)
    t.check(exit_value == 1, f"the debug exit was {exit_value}, not 1")
    t.expect(text, r"^not ok this check fails on purpose", "the failing check")


def linux_test(model, cpus):
    @test(f"intel/linux-{cpus}-cpu@{model}", limit=600, needs=("build/gcc", "build/guest-files"))
    def run(t):
        need_bochs(t)
        box = bochs.linux_guest(t.dir / "machine", cpu=model, cpus=cpus, memory=LINUX_MEMORY,
                                limit=600)
        begin = time.monotonic()
        talk = box.spawn(t.log, t.deadline.left())
        try:
            sh = Shell(t, talk)
            sh.begin()
            t.note(f"shell after {time.monotonic() - begin:.1f} s")
            text = sh.command("nproc; seq 1 2000 | md5sum; cat /proc/cpuinfo | grep -c GenuineIntel")
            t.check(text.split()[0] == str(cpus), f"nproc says {text.split()[0]}, not {cpus}")
            t.check(text.split()[-1] == str(cpus), "the guest does not see an Intel processor")
            text = sh.command("dmesg | grep -E 'BUG:|Oops|soft lockup|rcu.*stall' || true")
            t.check(not text.strip(), f"the kernel complains: {text.strip()[:200]}")
            talk.sendline("poweroff")
            t.check(box.wait(120) == 0, "poweroff in the guest did not end the run")
        finally:
            box.kill()


for each_name in NAMES:
    guest_test(each_name)
# What depends on the optional features of VMX, once more without any, but for the one that Bochs
# cannot do without: its interrupts do not end a guest that was entered with IF clear.
for each_name in ("exceptions", "hello", "ioapic", "lapic", "paging", "pic", "smp", "timers"):
    guest_test(each_name, "vmx=-all,+preemption-timer", "@none")


@test("intel/vmx-options", limit=LIMIT, needs=("build/gcc", "build/guest-tests"))
def vmx_options(t):
    """Each word of vmx= takes its feature out of the list, and an unknown one is told."""
    text, _ = run_guest(t, "hello", bochs.SKYLAKE, "vmx=-all,+2m,+ept-ad,+vpid,-vpid,-nonsense,pml")
    used = re.search(r"VMX: EPT, unrestricted guest; (.*)", text)
    t.check(used, "Roost does not say which features it uses")
    names = used.group(1).split(", ")
    t.check("ept-ad" in names and "2m" in names, "a feature that nobody turned off is missing")
    t.check("vpid" not in names and "1g" not in names, "a feature is used that was turned off")
    t.expect(text, r"vmx= does not know -nonsense; there are -all, and - before .*vpid",
             "the unknown name, and the known ones")
    t.expect(text, r"vmx= does not know pml;", "the name without a minus sign")
for each_model in (bochs.SKYLAKE, bochs.ICELAKE, bochs.HASWELL):
    linux_test(each_model, 1)
linux_test(bochs.SKYLAKE, 2)


def refusal_test(name, model, pattern):
    @test(f"intel/{name}", limit=120, needs=("build/gcc", "build/guest-tests"))
    def run(t):
        """A machine that cannot run guests is told so in one plain line, and nothing panics."""
        need_bochs(t)
        box = bochs.Bochs(t.dir / "machine", cpu=model, limit=120)
        box.roost("on-idle=poweroff", [box.stage("guest.elf", guest_image("hello"))])
        status, text = box.run(t.log, t.deadline.left())
        t.check(status is not None, "the machine did not end in time")
        t.expect(text, pattern, "what this processor lacks")
        t.expect(text, r"Roost cannot run guests on this machine", "the consequence")
        t.check("PANIC" not in text, "Roost panicked")


refusal_test("no-vmx", "p4_prescott_celeron_336", r"this CPU has no VMX \(Intel VT-x\)")
refusal_test("no-ept", "core2_penryn_t9600", r"this CPU's VMX has no EPT \(nested paging\)")
refusal_test("no-unrestricted-guest", "corei5_lynnfield_750",
             r"this CPU's VMX has no unrestricted guest \(real mode\)")
