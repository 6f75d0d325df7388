"""Every way to start Roost on the AMD machine: CD and stick by BIOS and UEFI, both Multiboot
versions, the network; and machines that lack what PCs used to have."""

import os
import re
import shutil
import time

import bochs
import iso
import machine
import screen
import usb
from guests import RIG_WORDS, Shell, guest_image, with_machine
from harness import test
from suite_host import Monitor

OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
NEEDS = ("build/gcc", "build/guest-files")
CPUS_2 = "CPUs: 2 of 2 in use"
LOST = 28 << 20  # the modules, which are 16 MiB, and what UEFI's runtime services and tables keep


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


def from_disc(t, uefi, options=(), memory=768, image=iso.ISO, kind=machine.Machine):
    """A machine with the image in its drive."""
    need(t, *((OVMF_CODE,) if uefi else ()))
    box = kind(t.dir / "machine", cpus=2, memory=memory << 20,
                          options=["-vga", "std", "-net", "none", *firmware(t, uefi), *options])
    box.boot = ["-cdrom", str(image), "-boot", "d"]
    return box


def choose(t, talk, key):
    """An entry of the menu, by its key."""
    found = talk.expect(["GNU GRUB", "error: .*", "PANIC"], timeout=t.deadline.left())
    t.check(found == 0, f"{talk.after!r} came instead of GRUB's menu")
    talk.send(str(key))


def to_shell(t, box, key):
    talk = box.spawn(t.log, t.deadline.left())
    try:
        choose(t, talk, key)
        sh = Shell(t, talk)
        sh.expect(r"\[roost\] Roost \S+, loaded by GRUB", "Roost's first line")
        used, there = sh.expect(r"CPUs: (\d) of (\d) in use", "the processors").groups()
        t.check(used == there, f"{used} of {there} processors were started")
        # Firmware and GRUB are gone: but for Roost and the modules all memory is free.
        free = int(sh.expect(r"memory: (\d+) MiB, \d+ MiB free", "the memory").group(1))
        t.check(free << 20 > box.memory - LOST, f"only {free} MiB of memory are used")
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
        version = iso.ENTRIES[key - 1][1]
        box, talk, _ = to_shell(t, from_disc(t, uefi), key)
        try:
            t.check(CPUS_2 in t.log.read_text(errors="replace") or uefi and version == 1,
                    "the second processor is not used")
            talk.sendline("poweroff")
            if uefi and version == 1:
                # Only Multiboot 2 says where a UEFI machine's ACPI tables are.
                Shell(t, talk).expect("does not power off by ACPI", "the end")
            else:
                t.check(box.wait(30) == 0, "poweroff in the guest did not end the machine")
        finally:
            box.kill()


disc_test("bios-multiboot2", 1)
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


# ---- the screen and its keyboard ----

QMP = ["-qmp", "unix:../qmp,server=on,wait=off"]
KEYS = {"\r": "ret", "\b": "backspace"}


def press(monitor, *keys):
    for name in keys:
        monitor.human(f"sendkey {name} 1")
        time.sleep(0.05)


def type_keys(monitor, text):
    press(monitor, *(KEYS.get(c, c) for c in text))


def framebuffer(t, monitor):
    target = t.dir / "screen.ppm"
    monitor.execute("screendump", filename=str(target))
    return screen.read(target)


def vga_text(monitor):
    """What stands in VGA's character memory: the lines, and the place of the inverted cell."""
    dump = monitor.human("xp /2000hx 0xb8000")
    cells = [int(x, 16) for x in re.findall(r"0x([0-9a-f]{4})\b", dump)]
    text = "".join(chr(c & 0xff) for c in cells)
    at = next((i for i, c in enumerate(cells) if c >> 8 == 0x70), None)
    return [text[i:i + 80].rstrip() for i in range(0, 2000, 80)], \
        None if at is None else (at % 80, at // 80)


def wait_screen(t, look, pattern):
    """Looks at the screen until a line matches."""
    lines = []
    try:
        while t.deadline.left() > 3:
            lines, _ = look()
            if any(re.search(pattern, x) for x in lines):
                return lines
            time.sleep(0.3)
    except OSError:
        print("\n".join(lines))
        raise
    print("\n".join(lines))
    return t.check(False, f"no line of the screen matches {pattern!r}")


def same_as_serial(t, said, look, columns):
    """The screen shows the end of what the serial line said."""
    lines, cursor = look()
    t.check(cursor, "the screen has no cursor")
    shown = lines[:cursor[1] + 1]
    expected = screen.render(said, columns)[-len(shown):]
    t.check(len(shown) == len(expected), f"{len(shown)} lines are shown, {len(expected)} were said")
    for have, want in zip(shown, expected):
        t.sub(want, have == want, f"is shown as {have!r}")
    t.check(not any(lines[cursor[1] + 1:]), "there is something below the cursor")
    t.note(f"{len(shown)} lines of {columns} characters compared")


# Each of these lines is longer than the screen is wide, or has what is no ASCII, or scrolls.
CHATTER = r"seq 1 80; seq -s ' ' 1 90; printf 'x\303\244y\bz\r\tT\033[31mred\033[0m\n'; dmesg | tail -n 30"


def screen_test(name, uefi=False, key=1, memory=768, columns=128, quick=False, mode=None):
    """A Linux guest's shell on both consoles, then the screen is held against the serial line."""

    @test(f"boot/screen-{name}", limit=120, quick=quick, needs=("boot/images",))
    def run(t):
        box = from_disc(t, uefi, options=QMP, memory=memory, image=mode_image(t, mode))
        box, talk, sh = to_shell(t, box, key)
        try:
            monitor = Monitor(t.dir / "qmp", 20)
            sh.command(CHATTER)
            talk.sendline("")
            sh.wait_prompt()
            time.sleep(0.5)
            talk.logfile_read.flush()
            said = t.log.read_bytes().decode(errors="replace")
            said = said[said.index("[roost] Roost"):]

            def look():
                return vga_text(monitor) if columns == 80 else framebuffer(t, monitor)

            same_as_serial(t, said, look, columns)
        finally:
            box.kill()


def mode_image(t, mode):
    """The usual image, or one whose first entry sets another mode of the screen."""
    if not mode:
        return iso.ISO
    tree, target = t.dir / "tree", t.dir / "mode.iso"
    files = {"vmlinuz": machine.KERNEL, "initrd.img": machine.INITRD, "roost.conf":
             machine.guest_config(kernel="vmlinuz", initrd="initrd.img", memory="512M",
                                  cmdline=machine.GUEST_CMDLINE)}
    entry = iso.entry("Roost", 2, "on-idle=poweroff", list(files), after=f"set gfxpayload={mode}")
    iso.write_tree(tree, iso.MENU_HEAD + entry.replace('" {', '" --hotkey=1 {', 1), files)
    iso.pack(tree, target)
    return target


screen_test("bios", quick=True)
screen_test("uefi", uefi=True)
screen_test("bios-16-bits", mode="800x600x16", columns=100)
screen_test("bios-24-bits", mode="800x600x24", columns=100)
screen_test("bios-text", mode="text", columns=80)


@test("boot/keyboard", limit=60, quick=True, needs=("build/gcc",))
def keyboard(t):
    """A command of Roost's shell, typed at the machine's keyboard, on a machine whose only console is
    the screen; and the other keys, on one that has both."""
    box = machine.Machine(t.dir / "machine", memory=256 << 20, options=["-vga", "std", *QMP])
    box.roost("console=screen")
    box.spawn(t.log, t.deadline.left())
    try:
        monitor = Monitor(t.dir / "qmp", 20)

        def look():
            return vga_text(monitor)

        wait_screen(t, look, r"^roost>$")
        type_keys(monitor, "help\r")
        wait_screen(t, look, r"^reboot +restart the machine")
        type_keys(monitor, "powerf\boff\r")
        t.check(box.wait(20) == 0, "poweroff, typed at the keyboard, did not end the machine")
    finally:
        box.kill()
    t.check("Roost" not in t.log.read_text(), "the serial line was used, which is no console here")


@test("boot/keyboard-layout", limit=60, needs=("build/gcc",))
def keyboard_layout(t):
    """Shift, caps lock and control, as the shell's echo on the serial line shows them; cursor keys, as
    its line editor takes them: the line comes back, and one more letter gets to its beginning."""
    box = machine.Machine(t.dir / "machine", memory=256 << 20, options=["-vga", "std", *QMP])
    box.roost()
    talk = box.spawn(t.log, t.deadline.left())
    try:
        monitor = Monitor(t.dir / "qmp", 20)
        talk.expect("roost> ", timeout=t.deadline.left())
        press(monitor, "a", "shift-a", "shift_r-1", "caps_lock", "b", "shift-b", "1", "shift-2", "caps_lock",
              "c", "bracket_left", "shift-bracket_left", "backslash", "dot", "kp_add", "ret",
              "up", "left", "ctrl_r-a", "grave_accent")
        line = "aA!Bb1@c[{\\.+"
        for shown in (line + "\r\n", "roost> ", line + "\b" * len(line),
                      "`" + line + "\b" * len(line)):
            found = talk.expect_exact([shown, __import__("pexpect").TIMEOUT], timeout=10)
            t.check(found == 0, f"{shown!r} does not come; the shell shows {talk.before!r}")
    finally:
        box.kill()


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


# ---- machines that lack things ----


class Silent(machine.Machine):
    """A machine without a serial port."""

    def argv(self, serial="none"):
        return super().argv("none")


def hello_box(t, kind=machine.Machine, memory=256, guest_memory="32M", words="on-idle=poweroff",
              cpu=machine.EPYC, options=()):
    """A machine, started directly, with a guest that says hello and ends."""
    box = kind(t.dir / "machine", cpu=cpu, memory=memory << 20, options=options)
    modules = [box.stage("hello.elf", guest_image("hello"))]
    modules.append(box.stage("roost.conf", machine.guest_config(
        "test", kernel="hello.elf", memory=guest_memory, debug_exit="yes")))
    return box.roost(words, modules)


HELLO = r"hello from a guest in long mode"
ENDED = r"vm test: debug exit 0"


def notebook_session(t, box):
    box.spawn(t.log, t.deadline.left())
    monitor = Monitor(t.dir / "qmp", 20)

    def look():
        return framebuffer(t, monitor)

    wait_screen(t, look, r"^guest#$")
    type_keys(monitor, "nproc\r")
    wait_screen(t, look, r"^1$")
    type_keys(monitor, "poweroff\r")
    t.check(box.wait(30) == 0, "poweroff, typed at the keyboard, did not end the machine")


def notebook_test(uefi):
    @test(f"boot/notebook-{'uefi' if uefi else 'bios'}", limit=120, needs=("boot/images",))
    def run(t):
        """No serial port: from the stick's menu to the guest's shell with screen and keyboard alone."""
        with_machine(t, lambda: from_disc(t, uefi, options=[*QMP, *machine.ONE_THREAD], kind=Silent),
                     lambda box: notebook_session(t, box))


notebook_test(False)
notebook_test(True)


@test("boot/bare", limit=90, quick=True, needs=("build/gcc", "build/guest-tests"))
def bare(t):
    """No serial port, HPET, PIT or keyboard controller: all is said on the screen."""
    box = hello_box(t, Silent, words="on-idle=shell",
                    options=["-vga", "std", "-M", "hpet=off,pit=off,i8042=off", *QMP])
    box.spawn(t.log, t.deadline.left())
    try:
        monitor = Monitor(t.dir / "qmp", 20)
        lines = wait_screen(t, lambda: vga_text(monitor), r"^roost>")
        for pattern in (r"no serial port answers at 3f8", r"clock: TSC \d+\.\d+ MHz \(ACPI PM timer\)",
                        HELLO, ENDED):
            t.sub(pattern, any(re.search(pattern, x) for x in lines), "is not on the screen")
    finally:
        box.kill()


def plain_test(name, patterns, limit=90, quick=False, **kwargs):
    @test(f"boot/{name}", limit=limit, quick=quick, needs=("build/gcc", "build/guest-tests"))
    def run(t):
        box = hello_box(t, **kwargs)
        status, text = box.run(t.log, t.deadline.left())
        t.check("PANIC" not in text, "Roost panicked")
        for pattern in (*patterns, HELLO, ENDED):
            t.expect(text, pattern, "the serial line")
        t.check(status is not None, "the machine did not end in time")


# 256 MiB begin at 0 and the rest at 4 GiB, or, where the address space has to have room for more, at
# 1 TiB. The guest needs both parts.
SPLIT = ["-M", "max-ram-below-4g=256M"]
plain_test("memory-hole", [r"memory: 5\d\d MiB"], memory=512, guest_memory="360M", options=SPLIT)
plain_test("memory-above-1t", [r"memory: 5\d\d MiB"], memory=512, guest_memory="360M",
           cpu="EPYC,phys-bits=43", options=[*SPLIT, "-m", "512,slots=1,maxmem=1100G"])
plain_test("la57", [], cpu="max")
plain_test("no-hpet", [r"\(ACPI PM timer\)"], options=["-M", "hpet=off"])
plain_test("no-acpi", [r"no ACPI tables", r"\(PIT\)", "CPUs: 1 of 1", "input has no interrupt: polled"],
           words=RIG_WORDS, options=["-M", "pc,acpi=off,hpet=off"])
plain_test("no-clocks", [r"clock: TSC 1000.000 MHz \(guess\)"], words=RIG_WORDS,
           options=["-M", "pc,acpi=off,hpet=off,pit=off"])


@test("boot/false-clock", limit=200, needs=("build/gcc", "build/guest-tests"))
def false_clock(t):
    """A processor whose CPUID claims another frequency than its TSC has: Bochs' Ice Lake."""
    lacking = bochs.missing()
    if lacking:
        t.skip("not installed: " + " ".join(lacking))
    box = bochs.Bochs(t.dir / "machine", cpu=bochs.ICELAKE, limit=190)
    config = machine.guest_config("test", kernel="hello.elf", memory="32M", debug_exit="yes")
    box.roost("on-idle=poweroff", [box.stage("hello.elf", guest_image("hello")),
                                   box.stage("roost.conf", config)])
    status, text = box.run(t.log, t.deadline.left())
    t.check(status is not None, "the machine did not end in time")
    for pattern in (r"clock: CPUID claims a TSC of \d+ MHz, the HPET says (99|100) MHz", ENDED,
                    r"clock: TSC (99|100)\.\d+ MHz \(HPET\)"):
        t.expect(text, pattern, "the serial line")
