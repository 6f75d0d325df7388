"""Roost's console over the real serial line: every command with its errors, and bad input."""

import re
import socket
import time

import bochs
import images
import machine
import pexpect
from guests import guest_image, need_bochs, test_guest
from harness import test

NEEDS = ("build/gcc", "build/guest-tests")
LINUX = ("build/gcc", "build/guest-files")
DETACH = "\x1d"


class Console:
    """The shell in batch mode, as a script uses it."""

    def __init__(self, t, talk):
        self.t = t
        self.talk = talk

    def expect(self, pattern, what, limit=None):
        found = self.talk.expect([pattern, "PANIC", pexpect.EOF, pexpect.TIMEOUT],
                                 timeout=limit or self.t.deadline.left())
        self.t.check(found == 0, f"{what}: {('', 'a panic', 'the end', 'nothing')[found]} came; "
                                 f"before it {self.talk.before[-300:]!r}")
        return self.talk.match

    def begin(self, detach=False):
        """Batch mode, from the prompt; detach: from a guest, once it said this."""
        if detach:
            self.expect(detach, "the guest")
            self.talk.send(DETACH)
        self.expect("roost> ", "the prompt")
        self.talk.send("batch on\r")
        self.expect(r"batch on\r\nok\r\n", "batch mode")
        return self

    def answer(self, what, messages=False):
        """(lines of output, error or None) of a command that was sent; messages: with those of Roost
        and lines of guests."""
        lines = []
        while True:
            self.expect(r"([^\n]*)\n", what)
            line = self.talk.match.group(1).replace("\r", "")
            if line == "ok":
                return lines, None
            if line.startswith("error: "):
                return lines, line[7:]
            if line and (messages or not line.startswith("[")):
                lines.append(line)

    def command(self, line):
        self.talk.send(line + "\r")
        lines, error = self.answer(line)
        self.t.check(error is None, f"`{line}`: {error}")
        return "\n".join(lines) + "\n"

    def wrong(self, line, error):
        """A command that has to be refused, with these words."""
        self.talk.send(line + "\r")
        lines, got = self.answer(line)
        self.t.sub(line, got is not None and re.fullmatch(error, got) and not lines,
                   f"is answered by {got!r} and {lines!r}")

    def shows(self, line, *patterns):
        text = self.command(line)
        for pattern in patterns:
            self.t.sub(f"{line}: {pattern}", bool(re.search(pattern, text, re.MULTILINE)),
                       f"does not match {text!r}")
        return text


def on_machines(name, limit=90, intel=True, needs=NEEDS, quick=False, suite="console"):
    """Registers the test on the AMD machine and, unless told otherwise, on the Intel one."""

    def register(function):
        @test(f"{suite}/{name}", limit=limit, needs=needs, quick=quick)
        def run(t):
            function(t, machine.EPYC)

        if intel:
            @test(f"intel/{suite}-{name}", limit=4 * limit, needs=needs)
            def run_intel(t):
                need_bochs(t)
                function(t, bochs.SKYLAKE)

    return register


def run_with(t, box, script, detach=False):
    talk = box.spawn(t.log, t.deadline.left())
    try:
        script(Console(t, talk).begin(detach))
    finally:
        box.kill()


def ended_guest(t, cpu, **kwargs):
    """A machine whose only guest, `test`, comes to its end by itself."""
    return test_guest(t, guest_image("hello"), cpu=cpu, words="on-idle=shell", **kwargs)


@on_machines("commands", quick=True)
def commands(t, cpu):
    """Each command that only looks, and what it refuses, with a VM that has ended."""

    def script(c):
        everything = c.shows("help", r"^attach +VM +\S", r"^vm show +VM +\S", r"^stat +\[VM\] \[VCPU\] ")
        names = re.findall(r"^([a-z]+(?: [a-z]+)?)(?= )", everything, re.MULTILINE)
        t.check(names == sorted(names) and len(names) > 15, f"{names} are not sorted")
        c.shows("help vm", r"\Avm \w+.*\n(vm .*\n)+\Z")
        c.wrong("help nonsense", "there is no such command")
        c.shows("version", r"\ARoost \d\S*, (SVM|VMX), 2 CPUs\n\Z")
        c.shows("cpu list", r"^CPU 0: APIC id 0, 0 vCPUs, \d+ interrupts$", r"^CPU 1: APIC id 1, ")
        text = c.shows("memory", r"\A\d+ KiB, \d+ KiB free$", r"^ +\d+ free blocks of \d+ KiB$",
                       r"^vm test: 65536 KiB, console 64 KiB$")
        free = int(re.search(r"(\d+) KiB free", text).group(1))
        blocks = re.findall(r"(\d+) free blocks of (\d+) KiB", text)
        t.check(sum(int(n) * int(size) for n, size in blocks) == free, "the blocks are not all")
        c.shows("modules", r"^guest\.elf +\d+ bytes at [0-9a-f]+$", r"^roost\.conf +\d+ bytes")
        c.shows("vm list", r"\Atest +stopped +1 vCPUs +65536 KiB *\n\Z")
        c.shows("vm show test", r"^test +stopped ", r"^  vCPU 0: CPU 0, \w+$")
        text = c.shows("stat", r"^ +[1-9]\d* +\d+/s  vm test, vCPU 0$")
        counts = [int(x) for x in re.findall(r"^ +(\d+)", text, re.MULTILINE)]
        t.check(len(counts) > 1 and sum(counts[:-1]) == counts[-1], f"{text} is not its own sum")
        c.shows("stat test 0", rf"^ +{counts[-1]} +0/s  vm test, vCPU 0$")
        c.shows("regs test 0", r"^rip +[0-9a-f]{16}  rflags \w+", r"^rax .* rcx ", r"^cr3 +[0-9a-f]{16}",
                r"^cs +\w{4} base [0-9a-f]{16} limit \w{8} attributes \w{4}$")
        c.shows("dump test 0x100000 20", r"\A0000000000100000 ( \w\w){16}  .{16}\n"
                                         r"0000000000100010 ( \w\w){4} +  .{4}\n\Z")
        c.shows("dump test 0 0", r"\A\n?\Z")
        for line, error in (
                ("vm", "unknown command 'vm'; 'help' lists them"),
                ("vm list all", "usage: vm list"), ("dump test 0", "usage: dump VM ADDRESS LENGTH"),
                ("dump nobody 0 1", "there is no VM 'nobody'"), ("regs test 1", "the vCPUs of .*"),
                ("dump test 0 4097", "at most 4096 bytes"), ("dump test zero 1", "'zero' is no number"),
                ("dump test 0xfffffffffffffff8 16", "f+8 is not RAM of 'test'"),
                ("dump test 0xc0000000 1", "c0000000 is not RAM of 'test'"),
                ("dump test 99999999999999999999 1", "'9+' is too large"),
                ("stat nobody", "there is no VM 'nobody'"), ("batch", "usage: batch on.off"),
                ("batch maybe", "'maybe' is none of on.off"), ("attach", "usage: attach VM"),
                ("translate test 0", "usage: .*"), ("x" * 300, "a line has at most 255 characters")):
            c.wrong(line, error)
        c.talk.send("log\r")
        c.expect(r"\[roost\] Roost [\s\S]*\[roost\] no guest is running\r\nok\r\n", "the log")
        c.talk.send("batch off\r")
        c.expect(r"^ok\r\nroost> ", "the prompt after batch mode")
        c.talk.send("nonsense\r")
        c.expect(r"nonsense\r\nerror: unknown command 'nonsense'.*\r\nroost> ", "an error")
        c.talk.send("powerof\t\r")
        t.check(box.wait(30) == 0, "poweroff did not end the machine")

    box = ended_guest(t, cpu, host_cpus=2)
    run_with(t, box, script)


def echo_guests(t, cpu, names, **kwargs):
    """A machine with guests that send back what they get."""
    config = "".join(machine.guest_config(name, kernel="echo", memory="4M", debug_exit="yes")
                     for name in names)
    return test_guest(t, guest_image("hello"), cpu=cpu, config=config, **kwargs,
                      extra=[("echo", images.echo())], words="on-idle=shell")


@on_machines("attach")
def attach(t, cpu):
    """Three guests that send back what they get: each has what was sent to it, and nothing else."""

    def script(c):
        c.wrong("send nobody x", "there is no VM 'nobody'")
        c.wrong("send one", "usage: send VM TEXT")
        for name in ("one", "two", "three"):
            c.talk.send(f"send {name}  for {name}  alone \r")
            c.expect(rf"^ok\r\n\[{name}\] for {name}  alone\r\n", "the line of a guest")
        for name in ("one", "two", "three"):
            c.talk.send(f"attach {name}\r")
            c.expect(rf"^'{name}' has the console now, until Ctrl-\]\r\nok\r\n", "attach")
            c.expect(rf"^for {name}  alone\r\n", "what it wrote before")
            # What is behind the command belongs to the guest, and Ctrl-] only leads back.
            c.talk.send(f"typed at {name}")
            c.expect(rf"typed at {name}", "the echo")
            c.talk.send(DETACH)
            c.command("version")
        c.talk.send("attach one\rat once" + DETACH + "version\r")
        c.expect(r"has the console now.*\r\nok\r\nfor one  alone\r\ntyped at one", "the scrollback")
        c.expect(r"Roost \d.*\r\nok\r\n", "a command at once behind Ctrl-]")
        # The others' lines come whole, behind their names.
        c.talk.send("attach one\r")
        c.expect(r"typed at oneat once", "the scrollback")
        c.talk.send(DETACH + "send two to two\r")
        c.expect(r"\[two\] to two\r\n", "the line of another guest")
        c.talk.send("send one ~\r")
        c.expect(r"vm one: debug exit 0", "the end of one guest")
        c.wrong("send one again", "'one' does not run")
        c.shows("vm list", r"^one +stopped", r"^two +running")
        c.talk.send("attach one\r")
        c.expect(r"typed at oneat once", "the scrollback of a guest that has ended")
        c.talk.send("lost" + DETACH)
        c.wrong("send two " + "x" * 300, "a line has at most .*")
        c.shows("memory", "^vm one: 4096 KiB, console 64 KiB$")

    run_with(t, echo_guests(t, cpu, ("one", "two", "three")), script, detach="three: started")


def state(c, name, wanted):
    """Waits for what was asked for to have happened."""
    text = ""
    for _ in range(100):
        text = c.command("vm list")
        if re.search(rf"^{name} +{wanted} ", text, re.MULTILINE):
            return
        time.sleep(0.1)
    c.t.check(False, f"{name} does not come to be {wanted}: {text}")


def alive(c, name, word):
    c.talk.send(f"send {name} {word}\r")
    c.expect(rf"\[{name}\] {word}\r\n", f"the echo of {name}")


def gone(c, name):
    for _ in range(100):
        if name not in c.command("vm list"):
            return
        time.sleep(0.1)
    c.t.check(False, f"{name} is still there")


def free(c):
    return int(re.search(r"(\d+) KiB free", c.command("memory")).group(1))


@on_machines("vms")
def vms(t, cpu):
    """VMs that are made, started, paused, reset, stopped and destroyed beside one that goes on, and
    each command at the wrong time."""

    def script(c):
        before = free(c)
        for _ in range(2):
            c.command("vm create new kernel=echo memory=4M debug-exit=yes")
            state(c, "new", "created")
            c.wrong("vm create new kernel=echo", "there is a VM new already")
            c.wrong("vm pause new", "vm new is created and cannot be paused")
            c.wrong("vm resume new", "vm new is created and cannot be resumed")
            c.wrong("send new x", "'new' does not run")
            c.command("vm start new")
            state(c, "new", "running")
            c.wrong("vm start new", "vm new is running and cannot be started")
            alive(c, "new", "first")
            c.command("vm pause new")
            state(c, "new", "paused")
            c.shows("regs new 0", r"^rip +00000000001000\w\w  rflags ")
            c.shows("translate new 0 0x100000", r"^100000 is guest physical 100000, host physical ")
            c.command("vm resume new")
            alive(c, "new", "second")
            c.command("vm shutdown new")
            alive(c, "new", "third")
            c.command("vm reset new")
            state(c, "new", "running")
            alive(c, "new", "fourth")
            c.command("vm stop new")
            state(c, "new", "stopped")
            c.wrong("vm stop new", "vm new is stopped and cannot be stopped")
            c.command("vm start new")
            state(c, "new", "running")
            alive(c, "new", "fifth")
            alive(c, "one", "here")
            c.command("vm destroy new")
            gone(c, "new")
            for what in ("start", "destroy", "show", "dirty"):
                c.wrong(f"vm {what} new" + " get" * (what == "dirty"), "there is no VM 'new'")
            t.sub("memory comes back", free(c) == before, f"{free(c)} KiB instead of {before} are free")
        c.wrong("vm create x", "usage: vm create NAME TEXT")
        c.wrong("vm create x kernel=nothing", r".*nothing.*")
        c.wrong("vm create x kernel=echo memory=900G", r".*memory.*")
        c.wrong("vm create .* " + "kernel=echo " * 15, r".+")
        c.wrong("vm dirty one get", "not in this state")
        c.command("vm dirty one on")
        c.wrong("vm dirty one on", "not in this state")
        c.wrong("vm dirty one maybe", "'maybe' is none of .*")
        c.command("vm dirty one get")
        c.shows("vm dirty one get", r"\A0 of 1024 pages written\n\Z")
        c.talk.send("send one !\r")
        c.expect(r"\[one\] !", "the echo")
        c.shows("vm dirty one get", r"\A000000200000 0000000000000001\n1 of 1024 pages written\n\Z")
        c.command("vm dirty one off")
        alive(c, "one", "off")
        before = free(c)
        for _ in range(3):
            c.command("vm dirty one on")
            alive(c, "one", "!")
            c.command("vm dirty one off")
            alive(c, "one", "off")
        t.sub("page tables come back", free(c) == before, f"{free(c)} KiB instead of {before} are free")
        # Interactive again, what loses something asks.
        c.talk.send("batch off\r")
        c.expect("roost> ", "the prompt")
        for line in ("vm destroy one", "vm stop one", "vm reset one", "reboot", "panic"):
            c.talk.send(line + "\r")
            c.expect(r"really\? \(y/n\) ", f"the question of `{line}`")
            c.talk.send("n\r")
            c.expect(r"error: not done\r\nroost> ", "its answer")
        c.talk.send("vm stop one\r")
        c.expect(r"really\? \(y/n\) ", "the question")
        c.talk.send("yes\r")
        c.expect(r"vm one: switched off", "the end of the guest")
        c.talk.send("vm destroy o\t\r")
        c.expect(r"vm one: destroyed", "the end of the VM")

    run_with(t, echo_guests(t, cpu, ("one",), memory=160 << 20), script, detach="one: started")


BAD_VALUES = (
    ("vm set one weight=0", "vm one: weight cannot be 0; expected a number from 1 to 10000"),
    ("vm set one weight=10001", "vm one: weight cannot be 10001; .*"),
    ("vm set one weight=-1", "vm one: weight cannot be -1; .*"),
    ("vm set one cap=6401", "vm one: cap cannot be 6401; expected a number of percent from 0 to 6400"),
    ("vm set one cap=99999999999999999999", "vm one: cap cannot be 9+; .*"),
    ("vm set one pin=64", "vm one: pin cannot be 64; expected CPUs of this machine, such as 0,2-5"),
    ("vm set one pin=1-0", "vm one: pin cannot be 1-0; .*"),
    ("vm set one pin=8-63", "vm one: pin cannot be 8-63; .*"),
    ("vm set one pin=", "vm one: pin cannot be ; .*"),
    ("vm set one on-crash=burn", "vm one: on-crash cannot be burn; expected stop, reset or pause"),
    ("vm set one memory=8M", "vm one: memory cannot be changed any more"),
    ("vm set one colour=red", "vm one: unknown key colour; .*"),
    ("vm set one weight", "vm one: weight is no setting; expected key = value"),
    ("vm create x kernel=echo cpus=0", "vm x: cpus cannot be 0; expected a number from 1 to 64"),
    ("vm create x kernel=echo cpus=65", "vm x: cpus cannot be 65; .*"),
    ("vm create x kernel=echo memory=1M", "vm x: memory cannot be 1M; .*"),
    ("vm create x kernel=echo memory=2097153", "vm x: memory cannot be 2097153; .*"),
    ("vm create x/y kernel=echo", "x/y cannot be the name of a VM; .*"),
    ("vm create " + "x" * 32 + " kernel=echo", "x+ cannot be the name of a VM; .*"),
    ("regs one 1", "the vCPUs of 'one' are 0 to 0"),
    ("regs one 99999999999999999999", "'9+' is too large"),
    ("stat one -1", "'-1' is no number"),
    ("dump one 0x3ffff8 16", "3ffff8 is not RAM of 'one'"),
    ("dump one 0xffffffffffffffff 2", "f+ is not RAM of 'one'"),
)


@on_machines("bad-values")
def bad_values(t, cpu):
    """Numbers out of range, a guest that reads nothing, and VMs until memory is gone: each is refused
    in clear words, and those that run go on. A VM with autostart = no waits for its start."""

    def script(c):
        for line, error in BAD_VALUES:
            c.wrong(line, error)
        state(c, "later", "created")
        c.command("vm start later")
        state(c, "later", "running")
        alive(c, "later", "now")
        for _ in range(100):
            c.talk.send("send deaf " + "x" * 200 + "\r")
            error = c.answer("send to one that does not read")[1]
            if error:
                break
        t.sub("input that nobody reads", error and re.fullmatch(
            r"it does not read: \d+ characters are on their way", error), f"is answered by {error!r}")
        made = 0
        while made < 64:
            c.talk.send(f"vm create m{made} kernel=echo memory=16M\r")
            error = c.answer("vm create")[1]
            if error:
                break
            c.command(f"vm start m{made}")
            made += 1
        t.note(f"{made} more of 16 MiB")
        t.sub("no memory", error and re.fullmatch(
            rf"vm m{made}: not enough memory: 16384 KiB wanted, \d+ KiB free", error),
            f"is answered by {error!r}")
        for name in ("one", "later", "m0", f"m{made - 1}"):
            state(c, name, "running")
            alive(c, name, "still-here")
        c.command("vm destroy m0")
        gone(c, "m0")
        c.command(f"vm create m{made} kernel=echo memory=16M")

    config = "".join(machine.guest_config(name, kernel=kernel, memory="4M", autostart=auto) for
                     name, kernel, auto in (("one", "echo", None), ("later", "echo", "no"),
                                            ("deaf", "halt", None)))
    # So much that what the last VM lacks is its own memory, not the block that its words are read in.
    box = test_guest(t, guest_image("hello"), cpu=cpu, host_cpus=2, config=config, memory=100 << 20,
                     words="on-idle=shell",
                     extra=[("echo", images.echo()), ("halt", images.dead_halt())])
    run_with(t, box, script, detach="deaf: started")


@on_machines("second-port")
def second_port(t, cpu):
    """Roost's console on COM2 of the machine: all is there, input as well, and nothing on COM1."""

    def script(c):
        c.shows("version", r"^Roost \d")
        c.talk.send("send one over here\r")
        c.expect(r"\[one\] over here\r\n", "the line of a guest")
        c.talk.send("attach one\r")
        c.expect("over here", "the scrollback")
        c.talk.send("typed")
        c.expect("typed", "the echo of the guest")

    box = test_guest(t, guest_image("hello"), cpu=cpu, port=2, words="on-idle=shell console=com2",
                     config=machine.guest_config("one", kernel="echo", memory="4M"),
                     extra=[("echo", images.echo())])
    run_with(t, box, script, detach="one: started")
    first = box.workdir / "com1.txt"  # Bochs makes it when the first byte comes
    said = first.read_text() if first.exists() else ""
    t.check("roost" not in said.lower(), f"on COM1 there came {said!r}")


@on_machines("guest-log")
def guest_log(t, cpu):
    """What a guest writes to its second serial port, or to the debug port, comes in the log line by
    line; where it is not given to the log there is no such port."""

    def script(c):
        c.talk.send("log\r")
        lines = c.answer("the log", messages=True)[0]
        for name, wanted, ports in (("com2", ["to COM2", "again", "x" * 80, "x" * 20 + "cut"], "10"),
                                    ("port", ["to the port", ""], "01"), ("none", [], "00")):
            # The last line of the first one has no end, and is not there.
            got = [x[len(f"[{name} log] "):] for x in lines if x.startswith(f"[{name} log]")]
            t.sub(f"lines of {name}", got == wanted[:3], f"{got} instead of {wanted[:3]}")
            c.talk.send(f"attach {name}\r")
            c.expect(rf"has the console now.*\r\nok\r\n{ports}\s", f"what {name} finds at the ports")
            c.talk.send(DETACH)
        c.wrong("vm create x kernel=ports log=com3",
                "vm x: log cannot be com3; expected none, com2 or debug-port")
        c.wrong("vm set com2 log=none", "vm com2: log cannot be changed any more")

    config = "".join(machine.guest_config(name, kernel="ports", memory="4M", debug_exit="yes", log=log)
                     for name, log in (("com2", "com2"), ("port", "debug-port"), ("none", None)))
    box = test_guest(t, guest_image("hello"), cpu=cpu, config=config, words="on-idle=shell",
                     extra=[("ports", images.log_ports())])
    run_with(t, box, script)


@test("console/scrollback", limit=150, needs=LINUX)
def scrollback(t):
    """The last 64 KiB of a guest, from the beginning of a line, and nothing twice or missing."""
    box = machine.linux_guest(t.dir / "machine", memory=256 << 20, words="on-idle=shell")

    def script(c):
        c.expect("guest# ", "the guest's prompt")
        c.talk.send("stty -echo; seq 1 14000\r")
        c.begin("\n14000\r\n.*guest# ")
        c.talk.send("attach guest\r")
        c.expect(r"has the console now.*\r\nok\r\n([\s\S]*\n14000\r\n)", "the scrollback")
        text = c.talk.match.group(1)
        numbers = [int(x) for x in text.split()]
        t.check(numbers == list(range(numbers[0], 14001)), "numbers are missing")
        t.check(65536 - 200 < len(text) <= 65536, f"{len(text)} bytes are shown")
        c.expect("guest# ", "the guest's prompt")
        c.talk.send("echo al''ive\r")
        c.expect("alive", "the guest")

    talk = box.spawn(t.log, t.deadline.left())
    try:
        script(Console(t, talk))
    finally:
        box.kill()


@test("console/slow-line", limit=400, needs=LINUX)
def slow_line(t):
    """A guest writes to a line that nobody reads: it goes on all the same, and where bytes are missing
    the line says how many."""
    box = machine.linux_guest(t.dir / "machine", memory=256 << 20, words="on-idle=shell")
    path = t.dir / "serial"
    child = machine.start(box.argv(f"unix:{path},server=on,wait=off"), cwd=box.workdir)
    line = socket.socket(socket.AF_UNIX)
    text = bytearray()
    try:
        while line.connect_ex(str(path)):
            t.check(t.deadline.left() > 1, "the serial line is not there")
            time.sleep(0.1)

        def read_to(pattern):
            seen = 0
            while not (found := re.compile(pattern).search(text, seen)):
                seen = max(0, len(text) - 100)
                line.settimeout(t.deadline.left() - 2)
                more = line.recv(65536)
                t.check(more, f"the line has closed behind {text[-200:]!r}")
                text.extend(more)
            return found

        read_to(rb"guest# ")
        line.sendall(b"stty -echo\r")
        for pause in (10, 40, 120):  # on a busy computer the guest needs longer
            text.clear()
            line.sendall(b"yes 123456789 | head -c 500000; echo d''one\r")
            time.sleep(pause)  # nothing is read meanwhile
            got = read_to(rb"\r\n\[(\d+) bytes dropped\]\r\n|done\r\n")
            came, dropped = got.start(), int(got.group(1) or 0)
            if dropped and came >= 1 << 17:
                break
            read_to(rb"done\r\n")
        t.note(f"{came} bytes came, {dropped} bytes were dropped")
        t.check(came >= 1 << 17 and dropped, "that is less than waits for the line")
        text.clear()
        line.sendall(b"echo al''ive\r")
        read_to(rb"alive")
    finally:
        print(text[-500:])
        child.kill()
        child.wait()


def paste(c, count):
    text = "version\r" * count
    for at in range(0, len(text), 4096):
        c.talk.send(text[at:at + 4096])


@on_machines("bad-bytes")
def bad_bytes(t, cpu):
    """Bytes that are no commands: control bytes, lines without an end, 64 KiB at once."""

    def script(c):
        c.talk.send("".join(map(chr, range(1, 128))).replace(DETACH, "") + "\r\x03\r")
        c.talk.send("version\r")
        c.expect(r"Roost \d.*\r\nok\r\n", "a command after all control bytes")
        c.talk.send("y" * 10000 + "\r")
        c.expect(r"error: a line has at most 255 characters\r\n", "a line of 10,000 characters")
        c.shows("version", "^Roost")
        # Bochs' line has the speed of a real one, so what is too much for Roost's buffers is lost there.
        count = 8192 if cpu == machine.EPYC else 1024
        paste(c, count)
        for seen in range(count):
            lines, error = c.answer("a paste")
            t.check(not error and len(lines) == 1, f"command {seen} of {count}: {error!r} and {lines!r}")
        t.note(f"{count} commands pasted at once, nothing was lost")
        if cpu != machine.EPYC:
            paste(c, 3072)
            while c.talk.expect([r"\n", pexpect.TIMEOUT], timeout=10) == 0:
                pass
            c.talk.send("\x03\r")
            c.shows("version", "^Roost")

    run_with(t, ended_guest(t, cpu), script)


@test("console/running-guest", limit=120, needs=LINUX)
def running_guest(t):
    """The shell beside Linux on two CPUs, which goes on: registers, translation, counters, questions."""
    box = machine.linux_guest(t.dir / "machine", cpus=2, memory=256 << 20, words="on-idle=shell")
    talk = box.spawn(t.log, t.deadline.left())
    try:
        c = Console(t, talk)
        c.expect("guest# ", "the guest's prompt")
        talk.send("while :; do :; done &\r")
        c.expect("guest# ", "the guest's prompt")
        talk.send(DETACH)
        c.expect("roost> ", "the prompt")
        talk.send("poweroff\r")
        c.expect(r"guests are there; really\? \(y/n\) ", "the question")
        talk.send("no\r")
        c.expect(r"error: not done\r\nroost> ", "its answer")
        talk.send("batch on\r")
        c.expect(r"ok\r\n", "batch mode")
        for vcpu in (0, 1):
            for _ in range(20):
                text = c.shows(f"regs guest {vcpu}", r"^cr0 +0000000080050033",
                               r"^efer +0000000000000d01")
            kernel = re.search(r"lstar +(\w+)", text).group(1)
            c.shows(f"translate guest {vcpu} 0x{kernel}",
                    rf"^{kernel} is guest physical [0-9a-f]+, host physical [0-9a-f]+$")
            c.wrong(f"translate guest {vcpu} 0x8000000000000000", "not canonical")
            c.wrong(f"translate guest {vcpu} 0xfffffffffffff000", "exception 14, error code 0, .*")
        c.shows("vm list", r"^guest +running +2 vCPUs")
        c.shows("cpu list", r"^CPU 2: APIC id 2, 1 vCPUs, .*\n  vCPU 1 of 'guest'$")
        c.shows("stat guest", "  vm guest, vCPU 1$")
        time.sleep(1)
        rates = c.shows("stat guest 0", r"\d+ +[1-9]\d*/s  vm guest, vCPU 0$")
        t.note(rates.splitlines()[-1])
        talk.send("attach guest\r")
        c.expect(r"ok\r\n", "attach")
        talk.send("\recho al''ive\r")
        c.expect("alive", "the guest after all that")
        talk.send("poweroff -f\r")
        c.expect("no guest is running", "the end of the guest")
        talk.send("poweroff\r")
        t.check(box.wait(30) == 0, "poweroff did not end the machine")
    finally:
        box.kill()
