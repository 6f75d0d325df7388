"""The emulated machines: one place that builds command lines, starts emulators and ends them.

Whatever starts an emulator, `make run` or a test, does it through Machine. A machine that a test
starts dies with the test, at the latest when its time is up.
"""

import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

# Debian's own modules, also where another python comes first in PATH.
sys.path.append("/usr/lib/python3/dist-packages")

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("BUILD", ROOT / "build")).resolve()
IMAGE = BUILD / "roost.elf"
KERNEL = BUILD / "linux" / "vmlinuz"
INITRD = BUILD / "linux" / "initrd.img"

# The folders that the image is built from, as the Makefile lists them.
ROOMS = tuple(re.search(r"^ROOMS := (.*)$", (ROOT / "Makefile").read_text(),
                        re.MULTILINE).group(1).split())

# The two processors that everything is tried on: one with nested paging only, one with all that
# the emulator has.
EPYC = "EPYC"
MAX = "max,-la57"

# Deterministic: one tick of the TSC is one instruction, and the same run gives the same figures.
COUNTED = ["-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2024-01-01,clock=vm"]

GUEST_CMDLINE = "console=ttyS0 quiet"
MIB = 1 << 20
_PR_SET_PDEATHSIG = 1


def parse_size(text):
    """Bytes of a size like 512M; a plain number is MiB, as for QEMU."""
    text = str(text).strip().upper().rstrip("B").rstrip("I")
    units = {"K": 1 << 10, "M": MIB, "G": 1 << 30, "T": 1 << 40}
    if text and text[-1] in units:
        return int(float(text[:-1]) * units[text[-1]])
    return int(text) * MIB


def _die_with_parent():
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start(argv, **kwargs):
    """Starts any helper process so that it cannot outlive this one."""
    return subprocess.Popen(argv, preexec_fn=_die_with_parent, **kwargs)


class Machine:
    """One emulated machine with Roost, or directly with a Linux kernel, on it.

    The modules are staged as links in a directory of their own, which is the emulator's working
    directory: a multiboot module is named by the first word of its string, so neither blanks nor
    commas of the user's paths may get there. port: the serial port that talks with us, 1 or 2; with 2
    what comes out of COM1 goes to the file com1.txt.
    """

    port = 1

    def __init__(self, workdir, cpu=EPYC, cpus=1, memory=512 * MIB, options=()):
        self.workdir = Path(workdir)
        self.cpu = cpu
        self.cpus = cpus
        self.memory = memory
        self.options = list(options)
        self.guest_cpus = range(cpus)
        self.boot = []
        self.child = None
        shutil.rmtree(self.workdir, ignore_errors=True)
        self.workdir.mkdir(parents=True)

    def stage(self, name, source):
        """Makes a file, or text when source is str or bytes, available under name."""
        target = self.workdir / name
        if isinstance(source, Path):
            target.symlink_to(source.resolve())
        elif isinstance(source, bytes):
            target.write_bytes(source)
        else:
            target.write_text(source)
        return name

    def spare_first_cpu(self):
        """One CPU more than asked for, so that the VMs of configure() have as many, none of them the
        first, where that one could ruin them: see ONE_THREAD. guest_cpus says which they have."""
        alone = self.cpus == 1 or "-icount" in self.options or ONE_THREAD[1] in self.options
        if not alone:
            self.guest_cpus = range(1, self.cpus + 1)
            self.cpus += 1
        return self

    def pin(self):
        """What keeps a VM on guest_cpus, as a value of its key `pin`; None where all CPUs are."""
        return f"{self.guest_cpus[0]}-{self.guest_cpus[-1]}" if self.guest_cpus[0] else None

    def configure(self, config):
        """Stages roost.conf, whose VMs stay on guest_cpus."""
        if self.pin():
            config = re.sub(r"^\[vm .*\]$", rf"\g<0>\npin = {self.pin()}", config, flags=re.MULTILINE)
        return self.stage("roost.conf", config)

    def roost(self, words="", modules=(), image=None):
        """Boots Roost with these command-line words and module strings (already staged)."""
        self.stage("roost.elf", Path(image or IMAGE))
        self.boot = ["-kernel", "roost.elf"]
        if words:
            self.boot += ["-append", words]
        if modules:
            self.boot += ["-initrd", ",".join(m.replace(",", ",,") for m in modules)]
        return self

    def linux(self, kernel, initrd, cmdline):
        """Boots Linux straight on the machine, for comparison."""
        self.stage("kernel", Path(kernel))
        self.stage("initrd", Path(initrd))
        self.boot = ["-kernel", "kernel", "-initrd", "initrd", "-append", cmdline]
        return self

    def argv(self, serial="stdio"):
        first = ["-serial", "file:com1.txt"] if self.port == 2 else []
        return [
            "qemu-system-x86_64", "-M", "q35", "-cpu", self.cpu, "-smp", str(self.cpus),
            "-m", str(-(-self.memory // MIB)), *self.boot,
            *first, "-serial", serial, "-display", "none", "-no-reboot", "-nodefaults", "-vga", "none",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *self.options,
        ]  # fmt: skip

    def run(self, log, limit):
        """Runs to the end or the limit in seconds. Returns (exit status or None, serial text). An
        emulator that is itself killed by a signal has shown nothing: it gets one more chance."""
        status, text = self._run_once(log, limit)
        if status is not None and status < 0:
            with open(log, "a", encoding="utf-8") as out:
                out.write(f"the emulator died of signal {-status}; once more\n")
            status, text = self._run_once(log, limit)
        return status, text

    def _run_once(self, log, limit):
        with open(log, "ab") as out:
            out.write((shlex.join(self.argv()) + "\n").encode())
            out.flush()
            begin = out.tell()
            child = start(self.argv(), cwd=self.workdir, stdin=subprocess.DEVNULL, stdout=out,
                          stderr=subprocess.STDOUT)
            try:
                status = child.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                child.kill()
                child.wait()
        with open(log, "rb") as text:
            text.seek(begin)
            return status, text.read().decode(errors="replace").replace("\r\n", "\n")

    def spawn(self, log, limit):
        """Starts it for a conversation: a pexpect object whose input is the serial line."""
        from pexpect.popen_spawn import PopenSpawn

        self.child = PopenSpawn(self.argv(), timeout=limit, cwd=str(self.workdir),
                                preexec_fn=_die_with_parent, encoding="utf-8",
                                codec_errors="replace", logfile=None)
        self.child.logfile_read = open(log, "a", encoding="utf-8")
        return self.child

    def wait(self, limit):
        """Exit status of a spawned machine that ends by itself within limit, else None."""
        try:
            return self.child.proc.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            return None

    def kill(self):
        if self.child is not None and self.child.proc.poll() is None:
            self.child.proc.kill()
            self.child.proc.wait()


def guest_config(name="guest", **keys):
    """A section of roost.conf; an underscore in a key stands for a dash."""
    lines = [f"[vm {name}]"]
    lines += [f"{k.replace('_', '-')} = {v}" for k, v in keys.items() if v is not None]
    return "\n".join(lines) + "\n"


def host_memory(guest_bytes, *modules):
    """Memory that the machine needs for guests of that size: the modules are there twice."""
    return guest_bytes + 64 * MIB + 2 * sum(Path(m).stat().st_size for m in modules)


# With a thread for each CPU, QEMU 7.2 may ruin what its first CPU notes of the world that it is in
# (hflags2) when another CPU loads an x87 state (cpu_clear_ignne() there, which takes no lock). The
# first CPU then goes on with the page tables of the other world, which ends in a triple fault. It
# also does not always notice code that another CPU changes. docs/test-rigs.md tells more.
ONE_THREAD = ("-accel", "tcg,thread=single")


def linux_guest(workdir, kernel=KERNEL, initrd=INITRD, cmdline=GUEST_CMDLINE, cpu=EPYC, cpus=1,
                host_cpus=None, memory=512 * MIB, words="on-idle=poweroff", options=(), image=None):
    """Roost with one Linux guest, as `make run` starts it."""
    files = [kernel] + ([initrd] if initrd else [])
    machine = Machine(workdir, cpu=cpu, cpus=host_cpus or cpus, memory=host_memory(memory, *files),
                      options=options).spare_first_cpu()
    modules = [machine.stage("kernel", Path(kernel))]
    if initrd:
        modules.append(machine.stage("initrd", Path(initrd)))
    config = guest_config(kernel="kernel", initrd="initrd" if initrd else None, cmdline=cmdline,
                          memory=f"{memory // MIB}M", cpus=cpus)
    modules.append(machine.configure(config))
    return machine.roost(words, modules, image)


def user_guest(program, memory):
    """What KERNEL=, INITRD=, CMDLINE=, CPUS=, MEMORY= and ROOST= of a make target ask for, as keyword
    arguments of linux_guest(). memory is the default. Ends the program when they make no sense."""

    def option(name, default):
        return os.environ.get(name) or default

    kernel = Path(option("KERNEL", KERNEL))
    initrd = option("INITRD", "" if os.environ.get("KERNEL") else str(INITRD))
    for path in filter(None, (str(kernel), initrd)):
        if not Path(path).is_file():
            sys.exit(f"{program}: there is no file {path}")
    try:
        size = parse_size(option("MEMORY", memory))
        cpus = int(option("CPUS", "1"))
    except ValueError:
        sys.exit(f"{program}: CPUS is a number, MEMORY a size such as 512M or 2G")
    return {"kernel": kernel, "initrd": initrd and Path(initrd), "cpus": cpus, "memory": size,
            "cmdline": option("CMDLINE", GUEST_CMDLINE),
            "words": ("on-idle=poweroff " + option("ROOST", "")).strip()}


class Deadline:
    """Seconds left of a time limit."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return max(0.1, self.end - time.monotonic())
