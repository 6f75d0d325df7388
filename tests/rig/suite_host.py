"""Roost's own state, seen from outside through the emulator's monitor."""

import json
import re
import socket
import time

import bochs
import machine
import pexpect
from guests import Shell, shell_guest, test_guest, guest_image
from harness import test


class Monitor:
    """QEMU's machine protocol on a socket, for the human monitor's commands."""

    def __init__(self, path, limit):
        end = time.monotonic() + limit
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self.socket.settimeout(60)
        self.file = self.socket.makefile("rw", encoding="utf-8")
        self.file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self.file.write(json.dumps(request) + "\n")
        self.file.flush()
        while line := self.file.readline():
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
        raise ConnectionError("the emulator has ended")

    def human(self, line):
        return self.execute("human-monitor-command", **{"command-line": line})


def pages(tlb_text):
    """(linear address, flags) of each line of `info tlb`. A flag string such as XG-DACT-W has X
    for no-execute first, P for a large page, and W for writable last."""
    for line in tlb_text.splitlines():
        found = re.match(r"^([0-9a-f]{16}): [0-9a-f]{16} (\S{9})\s*$", line)
        if found:
            yield int(found.group(1), 16), found.group(2)


def check_tables(t, text):
    """No page is writable and executable; the user bit is nowhere; page 0 is not mapped."""
    count = executable = writable = 0
    for address, flags in pages(text):
        count += 1
        may_write, may_execute = flags[8] == "W", flags[0] != "X"
        executable += may_execute
        writable += may_write
        t.check(not (may_write and may_execute),
                f"page {address:#x} is writable and executable ({flags})")
        t.check(flags[7] != "U", f"page {address:#x} is open to user mode ({flags})")
        t.check(address >= 0x1000, "page 0 is mapped")
    t.check(executable and writable, f"{count} pages, {executable} executable, {writable} writable:"
                                     " these are not the host's tables")
    return count


def stop_in_host(t, monitor, tries=200):
    """Stops the machine at a moment at which CPU 0 runs Roost and not a guest: the code address is
    one of the image's."""
    symbols = t.run(["nm", machine.IMAGE]).stdout
    text = [int(x, 16) for x in re.findall(r"^(\w+) [Tt] ", symbols, re.MULTILINE)]
    low, high = min(a for a in text if a > 1 << 47), max(text)
    for _ in range(tries):
        monitor.execute("stop")
        rip = int(re.search(r"RIP=(\w+)", monitor.human("info registers")).group(1), 16)
        if low <= rip <= high + 4096:
            return
        monitor.execute("cont")
        time.sleep(0.01)
    t.check(False, "the machine was never seen inside Roost")


def wx_test(name, cpu):
    @test(f"host/wx-{name}", limit=90, quick=name == "max", needs=("build/gcc", "build/guest-tests"))
    def run(t):
        """The host's page tables while a guest that exits all the time runs."""
        socket_path = t.dir / "qmp"
        box = test_guest(t, guest_image("hello"), cpu=cpu, words="on-idle=shell",
                         options=["-qmp", "unix:../qmp,server=on,wait=off"])
        talk = box.spawn(t.log, t.deadline.left())
        try:
            Shell(t, talk).expect("debug exit 0", "the guest's end")
            monitor = Monitor(socket_path, 20)
            stop_in_host(t, monitor)
            registers = monitor.human("info registers")
            count = check_tables(t, monitor.human("info tlb"))
            t.note(f"{count} pages of the host, none writable and executable")
            cr0 = int(re.search(r"CR0=(\w+)", registers).group(1), 16)
            cr4 = int(re.search(r"CR4=(\w+)", registers).group(1), 16)
            efer = int(re.search(r"EFER=(\w+)", registers).group(1), 16)
            t.check(cr0 >> 16 & 1, "CR0.WP is clear")
            t.check(cr4 >> 20 & 1, "SMEP is there but not used")
            t.check(cr4 >> 21 & 1, "SMAP is there but not used")
            t.check(cr4 >> 11 & 1 or name == "epyc", "UMIP is there but not used")
            t.check(efer >> 11 & 1, "EFER.NXE is clear")
        finally:
            box.kill()


wx_test("epyc", machine.EPYC)
wx_test("max", machine.MAX)


def walk(debugger, table, level=4, writable=True, no_execute=False, user=True):
    """(writable, executable, user) of each page of these tables, by the rights on the whole way."""
    for entry in debugger.table(table):
        if not entry & 1:
            continue
        rights = (writable and entry >> 1 & 1, no_execute or entry >> 63, user and entry >> 2 & 1)
        if level == 1 or entry >> 7 & 1:
            yield rights[0], not rights[1], rights[2]
        else:
            yield from walk(debugger, entry & 0xFFFFFFFFFF000, level - 1, *rights)


@test("intel/host-wx", limit=120, needs=("build/gcc", "build/guest-tests"))
def intel_wx(t):
    """The same with Bochs' debugger, when the guest has ended and Roost powers off."""
    box = test_guest(t, guest_image("hello"), cpu=bochs.SKYLAKE)
    symbols = t.run(["nm", machine.IMAGE]).stdout
    end = t.expect(symbols, r"^(\w+) T power_off$", "the function that powers off").group(1)
    debugger = bochs.Debugger(box, t.log, t.deadline.left())
    try:
        debugger.command(f"lb 0x{end}")
        debugger.command("c")
        registers = debugger.command("creg")
        cr = {n: int(x, 16) for n, x in re.findall(r"^(\w+)=.*?0x(\w+)", registers, re.MULTILINE)}
        pages = list(walk(debugger, cr["CR3"] & ~0xFFF))
        t.note(f"{len(pages)} pages of the host, none writable and executable")
        t.check(not any(w and x for w, x, _ in pages), "a page is writable and executable")
        t.check(not any(u for _, _, u in pages), "a page is open to user mode")
        t.check(any(w for w, _, _ in pages) and any(x for _, x, _ in pages),
                "these are not the host's tables")
        for register, bit, name in (("CR0", 16, "WP"), ("CR4", 20, "SMEP"), ("CR4", 21, "SMAP"),
                                    ("EFER", 11, "NXE")):
            t.check(cr[register] >> bit & 1, f"{name} is not used")
        t.sub_skip("UMIP", "this processor model has none")
    finally:
        debugger.kill()


@test("host/panic-report", limit=60, quick=True, needs=("build/gcc", "build/guest-tests"))
def panic_report(t):
    check_panic(t, machine.MAX)


@test("intel/host-panic-report", limit=120, needs=("build/gcc", "build/guest-tests"))
def intel_panic_report(t):
    check_panic(t, bochs.SKYLAKE)


def check_panic(t, cpu):
    """What a panic says: the CPU, the reason, the stack by the names of functions."""
    box = test_guest(t, guest_image("hello"), cpu=cpu, words="on-idle=shell")
    talk = box.spawn(t.log, t.deadline.left())
    try:
        shell = Shell(t, talk)
        shell.expect("roost> ", "Roost's shell")
        talk.send("panic\r")
        for line in (r"PANIC on CPU 0: asked for at the console", r"stack from [0-9a-f]{16}:",
                     r"  [0-9a-f]{16} host_io_run\+0x[0-9a-f]+", r"  [0-9a-f]{16} sched_loop\+0x",
                     r"Roost has stopped"):
            found = talk.expect([line, pexpect.EOF, pexpect.TIMEOUT], timeout=15)
            t.check(found == 0, f"the report has no line like {line}")
    finally:
        box.kill()
