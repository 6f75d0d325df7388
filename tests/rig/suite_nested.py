"""Hypervisors as guests, and their guests in turn: Linux' KVM with a small machine monitor."""

import machine
from guests import Shell
from harness import test
from suite_linux import script

INITRD = machine.BUILD / "nested" / "initrd.img"
L1_MEMORY = 640 << 20


@test("build/nested-files", limit=120, needs=("build/guest-files",))
def nested_files(t):
    t.make(f"BUILD={machine.BUILD}", "nested-files")


def kvm_machine(t, words, cpus=1, options=()):
    """Roost with a Linux that loads KVM and does as these words say: tools/nested/job."""
    return machine.linux_guest(t.dir / "machine", initrd=INITRD, cpu=machine.MAX, cpus=cpus,
                               cmdline=f"{machine.GUEST_CMDLINE} job=nested {words}",
                               memory=L1_MEMORY, options=options)


def kvm_test(name, npt, cpus, limit):
    @test(f"nested/{name}@max", limit=limit, cores=0, needs=("build/gcc", "build/nested-files"))
    def run(t):
        """Debian's kernel as L2 to its shell, the same script as one level below, power-off."""
        import pexpect

        box = kvm_machine(t, f"kvm-amd=npt={npt} l2-cpus={cpus}", cpus, ["-rtc", "base=utc"])
        talk = box.spawn(t.log, t.deadline.left())
        try:
            sh = Shell(t, talk)
            sh.expect(rf"L1: KVM 0 npt {'NY'[npt]}", "the modules of KVM")
            sh.expect(rf"monitor: {cpus} vCPUs", "the machine monitor")
            sh.begin()
            script(sh, t, cpus, mib=8)
            talk.sendline("poweroff")
            sh.expect("monitor: the guest has powered off", "L2's end")
            sh.expect("L1: monitor 0\r?\n", "the monitor's end")
            rest = talk.expect([r"\[[ \d.]+\] reboot: Power down", pexpect.EOF])
            t.check(rest == 0, f"L1 does not power off: {talk.before[-200:]}")
            said = talk.before.strip()
            t.check(not said, f"L1's kernel complains: {said[:200]}")
            talk.expect(pexpect.EOF)
            t.check(box.wait(30) == 0, "the run did not end cleanly")
        finally:
            box.kill()


kvm_test("kvm-npt1", 1, 1, 300)
kvm_test("kvm-npt1-2-cpu", 1, 2, 300)
kvm_test("kvm-npt0", 0, 1, 400)
kvm_test("kvm-npt0-2-cpu", 0, 2, 600)
