"""Hypervisors as guests on the Intel machine: Linux' KVM, and Roost itself. Bochs is slow: a run takes
minutes where the AMD machine's takes seconds, so there is one of each kind."""

import bochs
import machine
from guests import Shell, guest_image, need_bochs
from harness import test
from suite_nested import INITRD


def kvm_test(name, ept):
    @test(f"nested/{name}@intel", limit=1500, needs=("build/gcc", "build/nested-files"))
    def run(t):
        """Debian's kernel as L2 to its shell, one command, power-off of both."""
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
            text = sh.command("nproc; grep -c GenuineIntel /proc/cpuinfo")
            t.check(text.split() == ["1", "1"], f"L2's processor is {text.split()}")
            talk.sendline("poweroff")
            sh.expect("monitor: the guest has powered off", "L2's end")
            sh.expect("L1: monitor 0\r?\n", "the monitor's end")
            t.check(box.wait(300) == 0, "the run did not end cleanly")
        finally:
            box.kill()


kvm_test("kvm-ept1", 1)
kvm_test("kvm-ept0", 0)


@test("nested/roost-roost@intel", limit=600, needs=("build/gcc", "build/guest-tests"))
def roost_roost(t):
    """Roost in Roost, with a guest test in it."""
    need_bochs(t)
    box = bochs.Bochs(t.dir / "machine", memory=320 << 20, limit=600)
    names = [box.stage("roost.img", machine.IMAGE), box.stage("guest.elf", guest_image("hello"))]
    config = machine.guest_config("outer", kernel="roost.img", cmdline="on-idle=poweroff",
                                  modules="guest.elf", memory="200M")
    box.roost("on-idle=poweroff", [*names, box.stage("roost.conf", config)])
    status, text = box.run(t.log, t.deadline.left())
    t.expect(text, "Roost .* loaded by Roost", "the inner Roost")
    t.expect(text, r"^RESULT hello: 1 passed, 0 failed", "the guest's end")
    t.expect(text, "vm outer: powered off", "the inner Roost's end")
    t.check(status is not None, "the run did not end in time")
    t.check("PANIC" not in text, "a Roost panicked")
