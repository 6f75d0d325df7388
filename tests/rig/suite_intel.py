"""The Intel machine: guest tests and Linux under Roost on Bochs, where Bochs and GRUB are there.

The same images as on the AMD machine. Bochs counts instructions, so a run does not depend on what
else this computer does, but it is slow: 30 to 90 million instructions a second, shared by all its
CPUs. Other suites have their tests of this machine beside those of the AMD machine.
"""

import re
import time

import bochs
import machine
from guests import Shell, guest_image, need_bochs, test_guest
from harness import cannot, test
from suite_guest import NAMES, noticed, run_guest, verdict, wishes
from suite_linux import make_run, no_complaints, script

LIMIT = 400  # Bochs waits for whole seconds of emulated time
# One CPU takes 60 s alone, 270 s beside a load of 16; the CPUs of a machine share one thread.
LINUX_LIMITS = {1: 900, 2: 1500}
LINUX_MEMORY = 256 << 20


def guest_test(name, words="", suffix="", cpu=bochs.SKYLAKE):
    @test(f"intel/{name}{suffix}", limit=LIMIT, needs=("build/gcc", "build/guest-tests"))
    def run(t):
        verdict(t, *run_guest(t, name, cpu, words))


@test("intel/failure-is-noticed", limit=120, needs=("build/gcc", "build/guest-tests"))
def failure_is_noticed(t):
    noticed(t, bochs.SKYLAKE)


def linux_test(name, model=bochs.SKYLAKE, whole=False, image=None, needs=(), words="", cpus=1):
    limit = LINUX_LIMITS[cpus]

    @test(f"intel/linux-{name}", limit=limit, needs=("build/gcc", "build/guest-files", *needs))
    def run(t):
        """To the shell and back; whole: the AMD machine's script there."""
        need_bochs(t)
        box = bochs.linux_guest(t.dir / "machine", cpu=model, cpus=cpus, memory=LINUX_MEMORY,
                                limit=limit, image=image,
                                words=f"on-idle=poweroff {words}".rstrip())
        begin = time.monotonic()
        talk = box.spawn(t.log, t.deadline.left())
        try:
            sh = Shell(t, talk)
            sh.begin()
            t.note(f"shell after {time.monotonic() - begin:.1f} s")
            text = sh.command("nproc; cat /proc/cpuinfo | grep -c GenuineIntel")
            t.check(text.split() == [f"{cpus}"] * 2, f"{cpus} Intel processors are {text.split()}")
            if whole:
                script(sh, t, 1, mib=4, real_time=False)
            no_complaints(sh, t)
            talk.sendline("poweroff")
            t.check(box.wait(120) == 0, "poweroff in the guest did not end the run")
        finally:
            box.kill()


# Virtual interrupts: tools/bochs.py says what is wrong with them. When one comes to a task gate, the
# IDT-vectoring information is of an earlier event.
WORDS = dict.fromkeys(("exceptions", "task"), bochs.NO_VIRTUAL)
# None of VMX's optional features, but for the one that Bochs cannot do without: its interrupts do not
# end a guest that was entered with IF clear.
NOTHING = "vmx=-all,+preemption-timer"

for each_name in NAMES:
    if wishes(each_name).get("machine", "intel") == "intel":
        guest_test(each_name, WORDS.get(each_name, ""))
        guest_test(each_name, NOTHING, "@none")
    else:
        cannot(f"intel/{each_name}", "of SVM, which is AMD's")
# A TPR shadow alone, as processors without virtual-interrupt delivery have it; then all but one.
for each_name in ("ioapic", "lapic", "pic", "vmx_apic"):
    guest_test(each_name, bochs.NO_VIRTUAL, "@tpr")
for each_name in ("lapic", "smp", "vmx_apic", "vmx_run"):
    guest_test(each_name, "vmx=-apic-access", "@no-apic-access")


def scaled_test(name, khz):
    @test(f"intel/{name}@{khz}-khz", limit=LIMIT, needs=("build/gcc", "build/guest-tests"))
    def run(t):
        """The guest's TSC is slower or faster than the machine's, of 100 MHz."""
        config = machine.guest_config("test", kernel="guest.elf", memory="64M", cpus=1,
                                      debug_exit="yes", tsc_khz=khz)
        box = test_guest(t, guest_image(name), cpu=bochs.SKYLAKE, config=config)
        _, text = box.run(t.log, t.deadline.left())
        verdict(t, text, int(t.expect(text, r"vm test: debug exit (\d+)", "the end").group(1)))


for each_name in ("lapic", "pv", "vmx_run"):
    scaled_test(each_name, 250000)
scaled_test("lapic", 33333)
scaled_test("timers", 33333)
for each_rate in (33333, 250000):
    scaled_test("vmx_timer", each_rate)
scaled_test("vmx_run", 33333)  # the product of small multipliers is 0
guest_test("lapic", "vmx=-apic-registers", "@no-apic-registers")
guest_test("lapic", "vmx=-x2apic", "@no-x2apic")
# The only processor there with a monitor trap flag.
guest_test("vmx_timer", suffix="@icelake", cpu=bochs.ICELAKE)
# Without VMCS shadowing each VMREAD and VMWRITE of a guest exits.
for each_name in ("vmx_insn", "vmx_run", "vmx_event"):
    guest_test(each_name, "vmx=-vmcs-shadowing", "@plain")


@test("intel/vmx-options", limit=LIMIT, needs=("build/gcc", "build/guest-tests"))
def vmx_options(t):
    """Each word of vmx= takes its feature out of the list, and an unknown one is told."""
    text, _ = run_guest(t, "hello", bochs.SKYLAKE,
                        "vmx=-all,+2m,+ept-ad,+x2apic,+tpr-shadow,+vpid,-vpid,-nonsense,pml,-x2Apic")
    used = re.search(r"VMX: EPT, unrestricted guest; (.*)", text)
    t.check(used, "Roost does not say which features it uses")
    names = used.group(1).split(", ")
    t.check("ept-ad" in names and "2m" in names, "a feature that nobody turned off is missing")
    t.check("vpid" not in names and "1g" not in names, "a feature is used that was turned off")
    t.check("tpr-shadow" in names and "x2apic" not in names,
            "virtual x2APIC mode is used without virtual-interrupt delivery")
    t.expect(text, r"vmx= does not know -nonsense; there are -all, and - before .*vpid",
             "the unknown name, and the known ones")
    t.expect(text, r"vmx= does not know pml;", "the name without a minus sign")
    t.expect(text, r"vmx= does not know -x2Apic;", "a name in capitals")


for each_model in (bochs.SKYLAKE, bochs.ICELAKE, bochs.HASWELL):
    linux_test(f"1-cpu@{each_model}", each_model, whole=each_model == bochs.SKYLAKE)
    linux_test(f"2-cpu@{each_model}", each_model, cpus=2)
# The others go without what Bochs has wrong; one that is not busy gets along with it.
linux_test("all-options", words="vmx=+virtual-interrupts")
linux_test("no-options", words=NOTHING)
linux_test("debug-build", image=machine.BUILD / "debug" / "roost.elf", needs=("build/debug",))
cannot("intel/linux-4-cpu", "four CPUs share one thread there: minutes to the shell")


@test("intel/linux-make-run", limit=LINUX_LIMITS[2], needs=("build/gcc", "build/guest-files"))
def make_run_intel(t):
    """`make run-intel` with two CPUs."""
    need_bochs(t)
    make_run(t, "run-intel", 256)


def refusal_test(name, model, pattern):
    @test(f"intel/bad-input-{name}", limit=120, needs=("build/gcc", "build/guest-tests"))
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


def firmware_test(name, before, *patterns):
    @test(f"intel/bad-input-feature-control-{name}", limit=120,
          needs=("build/gcc", "build/guest-tests"))
    def run(t):
        """What the firmware has done to FEATURE_CONTROL (SDM 3C 23.7). The old BIOS leaves it alone,
        and GRUB can write it."""
        need_bochs(t)
        box = bochs.Bochs(t.dir / "machine", limit=120)
        box.bios, box.before = bochs.OLD_BIOS, before
        box.roost("on-idle=poweroff", [box.stage("guest.elf", guest_image("hello"))])
        talk = box.spawn(t.log, t.deadline.left())
        try:
            for pattern in patterns:
                Shell(t, talk).expect(pattern, "what Roost says")
        finally:
            box.kill()


firmware_test("open", "", r"ok long mode is active", r"no guest is running")
firmware_test("locked", "wrmsr 0x3a 1\n",
              r"CPU 0: VMX is switched off and locked by the firmware \(FEATURE_CONTROL\)",
              r"Roost cannot run guests on this machine")
