"""Every way to start Roost on the AMD machine: CD and stick by BIOS and UEFI, both Multiboot
versions, the network; and machines that lack what PCs used to have."""

import os
import shutil

import iso
import machine
import usb
from guests import Shell
from harness import test

OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
NEEDS = ("build/gcc", "build/guest-files")


def need(t, *paths):
    lacking = iso.missing() + [p for p in paths if not os.path.exists(p)]
    if lacking:
        t.skip("not installed: " + " ".join(lacking))


def firmware(t, uefi):
    """Options that choose the machine's firmware."""
    if not uefi:
        return []
    shutil.copyfile(OVMF_VARS, t.dir / "vars.fd")
    return ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}",
            "-drive", f"if=pflash,format=raw,unit=1,file={t.dir / 'vars.fd'}"]


@test("boot/images", limit=120, quick=True, needs=NEEDS)
def images(t):
    """`make iso` and `make netboot`, which the others use."""
    need(t)
    t.make(f"BUILD={machine.BUILD}", "iso")
    t.make(f"BUILD={machine.BUILD}", "netboot")


def from_disc(t, uefi, options=(), memory=768, image=iso.ISO):
    """A machine with the image in its drive."""
    need(t, *((OVMF_CODE,) if uefi else ()))
    box = machine.Machine(t.dir / "machine", memory=memory << 20,
                          options=["-vga", "std", "-net", "none", *firmware(t, uefi), *options])
    box.boot = ["-cdrom", str(image), "-boot", "d"]
    return box


def choose(t, talk, key):
    """An entry of the menu, by its key."""
    found = talk.expect(["GNU GRUB", "error: .*", "PANIC"], timeout=t.deadline.left())
    t.check(found == 0, f"{talk.after!r} came instead of GRUB's menu")
    talk.send(str(key))


def to_shell(t, box, key, loader="GRUB"):
    talk = box.spawn(t.log, t.deadline.left())
    try:
        choose(t, talk, key)
        sh = Shell(t, talk)
        sh.expect(rf"\[roost\] Roost \S+, loaded by {loader}", "Roost's first line")
        sh.begin()
        text = sh.command("nproc; uname -s")
        t.check("Linux" in text, f"the guest says {text!r}")
        return box, talk, sh
    except BaseException:
        box.kill()
        raise


def disc_test(name, key, uefi=False, quick=False):
    @test(f"boot/{name}", limit=120, quick=quick, needs=("boot/images",))
    def run(t):
        box, talk, _ = to_shell(t, from_disc(t, uefi), key)
        try:
            talk.sendline("poweroff")
            if uefi and iso.ENTRIES[key - 1][1] == 1:
                # Only Multiboot 2 says where a UEFI machine's ACPI tables are.
                Shell(t, talk).expect("does not power off by ACPI", "the end")
            else:
                t.check(box.wait(30) == 0, "poweroff in the guest did not end the machine")
        finally:
            box.kill()


disc_test("bios-multiboot2", 1, quick=True)
disc_test("bios-multiboot1", 4)
disc_test("uefi-multiboot2", 1, uefi=True)
disc_test("uefi-multiboot1", 4, uefi=True)


def stick_test(uefi):
    @test(f"boot/stick-{'uefi' if uefi else 'bios'}", limit=120, needs=("boot/images",))
    def run(t):
        """The same image as a USB stick."""
        box = from_disc(t, uefi)
        box.boot = ["-drive", f"if=none,id=stick,format=raw,readonly=on,file={iso.ISO}",
                    "-device", "qemu-xhci", "-device", "usb-storage,drive=stick,bootindex=0"]
        to_shell(t, box, 1)[0].kill()


stick_test(False)
stick_test(True)


def network_test(uefi):
    name, loader = ("uefi", "x86_64-efi/core.efi") if uefi else ("bios", "i386-pc/core.0")

    @test(f"boot/network-{name}", limit=180, needs=("boot/images",))
    def run(t):
        """PXE: a network card's boot ROM fetches GRUB, which fetches the rest."""
        box = from_disc(t, uefi)
        box.boot = ["-netdev", f"user,id=n,tftp={iso.NETBOOT},bootfile=/boot/grub/{loader}",
                    "-device", "e1000,netdev=n,bootindex=0"]
        box.options.remove("-net")
        box.options.remove("none")
        to_shell(t, box, 1)[0].kill()


network_test(False)
network_test(True)


# ---- make usb ----


def fake_disk(top, name, removable="1", size=1 << 30, partitions=()):
    """A disk as /sys shows it."""
    disk = top / "block" / name
    (disk / "holders").mkdir(parents=True)
    (disk / "removable").write_text(removable + "\n")
    (disk / "size").write_text(f"{size // 512}\n")
    for part in partitions:
        (disk / part / "holders").mkdir(parents=True)
        (disk / part / "partition").write_text("1\n")


@test("boot/usb-refuses", quick=True, needs=("boot/images",))
def usb_refuses(t):
    """make usb writes to nothing but a whole removable disk that nothing uses."""
    sysfs = t.dir / "sys"
    fake_disk(sysfs, "sdx", partitions=("sdx1", "sdx2"))
    fake_disk(sysfs, "sdy", removable="0")
    fake_disk(sysfs, "sdz", size=1 << 20)
    fake_disk(sysfs, "sdw", partitions=("sdw1",))
    (sysfs / "block" / "sdw" / "sdw1" / "holders" / "dm-0").mkdir()

    def why(name, mounts="", swaps="", **kwargs):
        return usb.refusal(f"/dev/{name}", 32 << 20, sysfs=sysfs, mounts=mounts, swaps=swaps,
                           **{"is_block": True, **kwargs})

    t.check(why("sdx") is None, f"a good stick is refused: {why('sdx')}")
    for name, text, keys in (
            ("sdx", "not a block device", {"is_block": False}),
            ("sdx1", "not a whole disk", {}),
            ("sdy", "not removable", {}),
            ("sdz", "room for 1 MiB", {}),
            ("sdw", "sdw1 is a part of dm-0", {}),
            ("sdx", "sdx2 is mounted at /mnt", {"mounts": "/dev/sdx2 /mnt ext4 rw 0 0\n"}),
            ("sdx", "sdx is mounted at /", {"mounts": "/dev/sdx / ext4 rw 0 0\n"}),
            ("sdx", "sdx1 is swap", {"swaps": "Filename Type\n/dev/sdx1 partition 1 0 -2\n"})):
        t.sub(text, text in (why(name, **keys) or ""), f"is not why {name} is refused")
    done = t.run(["make", "--no-print-directory", f"BUILD={machine.BUILD}", "usb",
                  "DEVICE=/dev/null"], ok=None)
    t.sub("make usb", done.returncode != 0 and "not a block device" in done.stdout,
          "does not refuse /dev/null")
    target = t.dir / "stick"
    target.write_bytes(b"\xff" * (iso.ISO.stat().st_size + 4096))
    usb.write(iso.ISO, target)
    written = target.read_bytes()
    t.sub("what is written", written[:-4096] == iso.ISO.read_bytes() and
          written[-4096:] == b"\xff" * 4096, "is not the image")
