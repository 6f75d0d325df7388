"""The emulated Intel machine: Bochs, with Roost on a CD image that GRUB boots.

`make run-intel` is this file run as a program; the tests use the class. Bochs has no multiboot
loader of its own, so each machine gets an image of its own in its scratch directory. It ignores
SIGTERM and its own way to end is a power-off by ACPI, so it always runs under a time limit.
"""

import fcntl
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
import tty
from contextlib import contextmanager
from pathlib import Path

import iso
import machine

SKYLAKE = "corei7_skylake_x"
ICELAKE = "corei7_icelake_u"
HASWELL = "corei7_haswell_4770"
RYZEN = "ryzen"  # AMD, with SVM
TIME0 = 1704067200  # of the clock when the machine starts
MODELS = (SKYLAKE, ICELAKE, HASWELL, RYZEN)
MEMORY = 256 * machine.MIB
# Bochs takes no more of this computer for a machine. One with more loses what is in its memory once
# it has touched more than that: a return address on the stack was 0 then.
HOST_MEMORY = 2048 * machine.MIB

# The first one locks FEATURE_CONTROL; the second knows nothing of it, of ACPI and of other CPUs.
BIOS = "/usr/share/bochs/BIOS-bochs-latest"
OLD_BIOS = "/usr/share/bochs/BIOS-bochs-legacy"

# What the CD image and the emulator need, beside what QEMU needs.
PROGRAMS = ("bochs", "grub-mkrescue", "xorriso", "mformat")
GRUB_MODULES = Path("/usr/lib/grub/i386-pc")

# Bochs 2.7 looks only whether a virtual interrupt is pending when a physical one arrives in a guest
# (cpu/event.cc, InterruptAcknowledge()), and delivers it with IF clear, too. A kernel with locks that
# interrupts must not find held comes to a stop: Linux under load after some dozens of commands.
NO_VIRTUAL = "vmx=-virtual-interrupts"

# Virtual time follows executed instructions, 100 million a second: runs repeat exactly.
CONFIG = """\
config_interface: textconfig
display_library: rfb, options="timeout=0"
cpu: model={model}, count={cpus}, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs={ignore}
memory: guest={memory}, host={host}
romimage: file={bios}
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
vga: extension=none
ata0-master: type=cdrom, path=roost.iso, status=inserted
boot: cdrom
com{port}: enabled=1, mode={serial}
log: bochs.log
panic: action=fatal
error: action=report
info: action=ignore, rfb=report
clock: sync=none, time0={time0}
speaker: enabled=0
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
"""


def missing():
    """Names of what is not installed and Bochs runs need."""
    found = [p for p in PROGRAMS if shutil.which(p) is None]
    return found + ([] if GRUB_MODULES.is_dir() else [str(GRUB_MODULES)])


@contextmanager
def alone_at_start(workdir):
    """Starts one Bochs at a time. Each looks for a port for its screen, and when two bind the same one
    before either listens, the other takes none of the next ones for free and ends."""
    log, until = workdir / "bochs.log", time.monotonic() + 10
    log.unlink(missing_ok=True)
    with open(machine.BUILD / "bochs.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        while time.monotonic() < until:
            if log.exists() and "listening for connections" in log.read_text(errors="replace"):
                break
            time.sleep(0.02)


class Bochs(machine.Machine):
    """machine.Machine on the other emulator. Modules are files of the CD image. before: commands for
    GRUB before it loads Roost."""

    bios, before = BIOS, ""

    def __init__(self, workdir, cpu=SKYLAKE, cpus=1, memory=MEMORY, limit=600, time0=TIME0):
        super().__init__(workdir, cpu=cpu, cpus=cpus, memory=memory)
        self.limit = limit
        self.time0 = time0
        self.files = self.workdir / "iso" / "boot"
        (self.files / "grub").mkdir(parents=True)

    def stage(self, name, source):
        target = self.files / name
        if isinstance(source, Path):
            shutil.copyfile(source, target)
        elif isinstance(source, bytes):
            target.write_bytes(source)
        else:
            target.write_text(source)
        return name

    def roost(self, words="", modules=(), image=None, multiboot=2):
        """multiboot: the version by which GRUB loads the image, 1 for a guest test alone."""
        self.stage("roost.elf", Path(image or machine.IMAGE))
        (self.files / "grub" / "grub.cfg").write_text(
            "set timeout=0\n" + self.before + iso.entry("Roost", multiboot, words, modules))
        subprocess.run(["grub-mkrescue", "-d", str(GRUB_MODULES), "-o", "roost.iso", "iso"],
                       cwd=self.workdir, check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def argv(self, serial="file, dev=serial.txt"):
        """Also writes the configuration that the command names."""
        size = -(-self.memory // machine.MIB)
        config = CONFIG.format(model=self.cpu, cpus=self.cpus, serial=serial, port=self.port, time0=self.time0,
                               memory=size, host=min(size, HOST_MEMORY // machine.MIB),
                               # Its AMD processor has SVM but not the MSR that locks it.
                               ignore=int(self.cpu == RYZEN), bios=self.bios)
        if self.port == 2:
            config += "com1: enabled=1, mode=file, dev=com1.txt\n"
        (self.workdir / "bochsrc").write_text(config)
        # Debian's Bochs stops in its debugger at the start and each time that it is interrupted.
        (self.workdir / "debugger").write_text("c\n" * 3)
        return ["timeout", "-k", "2", str(int(self.limit)), "nice", "-n", "10",
                "bochs", "-q", "-f", "bochsrc", "-rc", "debugger"]  # fmt: skip

    def _start(self, log, serial):
        with open(log, "ab") as out, alone_at_start(self.workdir):
            return machine.start(self.argv(serial), cwd=self.workdir, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=subprocess.STDOUT)

    def run(self, log, limit):
        """As Machine.run(), but the status says only whether it ended: Bochs has one for all."""
        serial = self.workdir / "serial.txt"
        child = self._start(log, "file, dev=serial.txt")
        try:
            child.wait(timeout=limit)
            status = 0
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(child)
        text = serial.read_bytes() if serial.exists() else b""
        with open(log, "ab") as out:
            out.write(text)
        return status, text.decode(errors="replace").replace("\r\n", "\n")

    def spawn(self, log, limit):
        """A conversation over the serial line, which is a pseudo-terminal."""
        from pexpect.fdpexpect import fdspawn

        master = self._open_line(log)
        talk = fdspawn(master, timeout=limit, encoding="utf-8", codec_errors="replace")
        talk.logfile_read = open(log, "a", encoding="utf-8")
        return talk

    def _open_line(self, log):
        master, slave = pty.openpty()
        tty.setraw(slave)
        self.child = self._start(log, f"term, dev={os.ttyname(slave)}")
        self.slave = slave  # stays open: without it the line would hang up
        return master

    def wait(self, limit):
        try:
            self.child.wait(timeout=limit)
            return 0
        except subprocess.TimeoutExpired:
            return None

    def kill(self):
        if self.child is not None:
            _end(self.child)

    def terminal(self, log):
        """Joins the serial line with this terminal until the machine ends or Ctrl-a x is typed."""
        master = self._open_line(log)
        keyboard = sys.stdin.fileno()
        old = termios.tcgetattr(keyboard) if os.isatty(keyboard) else None
        if old:
            tty.setraw(keyboard)
        try:
            _relay(self.child, keyboard, master)
        finally:
            if old:
                termios.tcsetattr(keyboard, termios.TCSADRAIN, old)
            self.kill()


class Debugger:
    """Bochs' own debugger, on a machine that has a boot but has not been started."""

    def __init__(self, box, log, limit):
        import pexpect

        self.count = 0
        box.argv()
        with alone_at_start(box.workdir):
            self.child = pexpect.spawn("timeout", ["-k", "2", str(int(limit)), "bochs", "-q", "-f",
                                                   "bochsrc"],
                                       cwd=str(box.workdir), timeout=limit, encoding="latin-1")
        self.child.logfile_read = open(log, "a", encoding="latin-1")
        self._prompt()

    def _prompt(self):
        self.count += 1
        self.child.expect_exact(f"<bochs:{self.count}>")
        return re.sub(r"\r|\x1b\[\?2004[hl]", "", self.child.before)

    def command(self, line):
        """What it answers."""
        self.child.sendline(line)
        return self._prompt()

    def table(self, address):
        """The 512 entries of the page table at a physical address."""
        text = self.command(f"xp /512gx {address:#x}")
        return [int(x, 16) for x in re.findall(r"\t(0x[0-9a-f]+)", text)]

    def kill(self):
        self.child.close(force=True)


def _end(child):
    """Bochs is a grandchild, behind timeout, which passes its own end on after two seconds."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _relay(child, keyboard, line):
    command = False
    sources = [keyboard, line]
    while child.poll() is None:
        for ready in select.select(sources, [], [], 0.2)[0]:
            data = os.read(ready, 4096)
            if ready == line:
                os.write(sys.stdout.fileno(), data)
                continue
            if not data:
                sources.remove(keyboard)
            for byte in data:
                if command and byte in b"xX":
                    return
                command = not command and byte == 1
                if not command:
                    os.write(line, bytes([byte]))


def linux_guest(workdir, kernel=machine.KERNEL, initrd=machine.INITRD,
                cmdline=machine.GUEST_CMDLINE, cpu=SKYLAKE, cpus=1, host_cpus=None,
                memory=256 * machine.MIB, words="on-idle=poweroff", limit=3600, image=None):
    """machine.linux_guest() on Bochs. Its BIOS touches all memory, so less is quicker. Unless words say
    otherwise (vmx=), Roost does not use what Bochs has wrong for Linux."""
    files = [kernel] + ([initrd] if initrd else [])
    box = Bochs(workdir, cpu=cpu, cpus=host_cpus or cpus, limit=limit, time0=int(time.time()),
                memory=machine.host_memory(memory, *files))
    modules = [box.stage("kernel", Path(kernel))]
    if initrd:
        modules.append(box.stage("initrd", Path(initrd)))
    config = machine.guest_config(kernel="kernel", initrd="initrd" if initrd else None,
                                  cmdline=cmdline, memory=f"{memory // machine.MIB}M", cpus=cpus)
    modules.append(box.stage("roost.conf", config))
    return box.roost(words if "vmx=" in words else f"{words} {NO_VIRTUAL}", modules, image)


def main():
    """`make run-intel`: options as for `make run`; CPU is a processor model of Bochs."""
    lacking = missing()
    if lacking:
        sys.exit("make run-intel needs the Debian packages bochs bochsbios vgabios grub-pc-bin "
                 f"grub-common xorriso mtools; missing: {' '.join(lacking)}")

    box = linux_guest(machine.BUILD / "run-intel", cpu=os.environ.get("CPU") or SKYLAKE,
                      **machine.user_guest("make run-intel", "256M"))
    print("Bochs takes some 30 seconds to the guest's shell. Ctrl-a, then x ends it.", flush=True)
    box.terminal(box.workdir / "bochs.out")


if __name__ == "__main__":
    main()
