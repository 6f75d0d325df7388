"""Bad input through real boots: each is reported in clear words, and what is good still runs.

Wherever it can be, a second, good guest runs beside the bad one and must come to its end.
"""

import os
import re

import bochs
import images
import machine
from guests import RIG_WORDS, guest_image, test_guest
from harness import cannot, test

NEEDS = ("build/gcc", "build/guest-tests", "build/guest-files")
GOOD = machine.guest_config("good", kernel="guest.elf", memory="32M", debug_exit="yes")
GOOD_END = r"vm good: debug exit 0"


def boot(t, config, extra=(), memory=96 << 20, words="on-idle=poweroff", until=None, **kwargs):
    """Serial text of a run with this roost.conf; it must end by itself and without a panic. With
    until the machine is ended when that was seen instead."""
    box = test_guest(t, guest_image("hello"), config=config, extra=extra, memory=memory,
                     words=words, **kwargs)
    if until:
        import pexpect

        talk = box.spawn(t.log, t.deadline.left())
        try:
            text = ""
            for pattern in until:
                found = talk.expect([pattern, "PANIC", pexpect.EOF, pexpect.TIMEOUT],
                                    timeout=t.deadline.left() - 2)
                text += talk.before + str(talk.after)
                t.check(found == 0, f"nothing matches {pattern!r} before the end")
            return text
        finally:
            box.kill()
    status, text = box.run(t.log, t.deadline.left())
    t.check("PANIC" not in text, "Roost panicked")
    t.check(status is not None, "the machine did not end in time")
    return text


CASES = []  # all of bad_test(), for the Intel machine


def bad_test(name, config, expected, extra=(), good=True, quick=False, limit=60, **kwargs):
    """Registers a boot with this configuration, whose text must match all that is expected."""
    extra = [(n, (lambda c=content: c) if not callable(content) else content)
             for n, content in extra]
    CASES.append((name, config, expected, extra, kwargs))

    @test(f"bad-input/{name}", limit=limit, quick=quick, needs=NEEDS)
    def run(t):
        text = boot(t, GOOD + config if good else config,
                    extra=[(n, content()) for n, content in extra], **kwargs)
        for pattern in expected:
            t.expect(text, pattern, "the message")
        if good:
            t.expect(text, GOOD_END, "the end of the good guest")


def vm(name="bad", **keys):
    return machine.guest_config(name, **{"memory": "16M", **keys})


def kernel_part(size):
    return lambda: machine.KERNEL.read_bytes()[:size]


def broken_elf():
    data = bytearray(guest_image("hello").read_bytes())
    data[0x20:0x40] = b"\xff" * 0x20  # offsets and sizes of the headers
    return bytes(data)


# A machine that cannot run guests.
bad_test("no-svm", GOOD, [r"no SVM"], good=False, quick=True, cpu="qemu64,-svm",
         words=RIG_WORDS)
bad_test("no-nested-paging", GOOD, [r"no nested paging"], good=False, cpu="EPYC,-npt",
         words=RIG_WORDS)

# Kernels and initial file systems.
bad_test("tsc-khz", vm(kernel="guest.elf", tsc_khz="123456"), [r"bad: tsc-khz=123456: this CPU cannot scale the TSC"])
bad_test("kernel-missing", vm(kernel="nothere"), [r"bad.*nothere"], quick=True)
bad_test("kernel-empty", vm(kernel="empty"), [r"(?i)bad.*(empty|short|kernel|format)"],
         extra=[("empty", b"\n")])
bad_test("kernel-truncated-header", vm(kernel="cut"), [r"(?i)bad: .*(trunc|short|cut|format)"],
         extra=[("cut", kernel_part(600))])
bad_test("kernel-truncated", vm(kernel="cut", memory="64M"), [r"(?i)bad.*(trunc|short|cut|larger)"],
         extra=[("cut", kernel_part(1 << 20))], memory=192 << 20)
bad_test("kernel-corrupt", vm(kernel="noise"), [r"(?i)bad.*(format|unknown|neither|no kernel)"],
         extra=[("noise", lambda: os.urandom(70000))])
bad_test("elf-corrupt", vm(kernel="broken"), [r"(?i)bad: "], extra=[("broken", broken_elf)])
bad_test("initrd-too-large", vm(kernel="linux", initrd="big", memory="48M"),
         [r"(?i)bad.*(initrd|fit|memory)"],
         extra=[("linux", machine.KERNEL), ("big", b"x" * (60 << 20))], memory=320 << 20)
bad_test("initrd-missing", vm(kernel="guest.elf", initrd="nothere"), [r"bad.*nothere"])

# Memory.
bad_test("memory-too-large", vm(kernel="guest.elf", memory="64G"), [r"(?i)bad.*memory.*\d+ ?[MK]"],
         quick=True)
bad_test("memory-too-small", vm(kernel="guest.elf", memory="64K"), [r"(?i)bad.*memory|bad.*fit"])

# roost.conf: the line is named, the rest works.
bad_test("conf-syntax", "what is this\n", [r"roost\.conf:\d+"], quick=True)
bad_test("conf-unknown-key", vm(kernel="guest.elf", colour="blue"), [r"roost\.conf:\d+.*colour"])
bad_test("conf-unknown-section", "[printer x]\nkernel = y\n", [r"roost\.conf:\d+"])
bad_test("conf-duplicate-name", vm("good", kernel="guest.elf"), [r"roost\.conf:\d+.*good"])
bad_test("conf-duplicate-key", vm(kernel="guest.elf") + "memory = 8M\n",
         [r"roost\.conf:\d+.*memory"])
bad_test("conf-bad-size", vm(kernel="guest.elf", memory="lots"), [r"roost\.conf:\d+.*lots"])
bad_test("conf-bad-cpus", vm(kernel="guest.elf", cpus="0"), [r"roost\.conf:\d+.*cpus"])
bad_test("conf-many-cpus", vm(kernel="guest.elf", cpus="1000"), [r"roost\.conf:\d+.*cpus"])
bad_test("conf-open-section", "[vm broken\nkernel = guest.elf\n", [r"roost\.conf:\d+"])
bad_test("command-line-unknown-word", "", [r"(?i)frobnicate"], quick=True,
         words="on-idle=poweroff frobnicate=7")

# Guests that misbehave.
bad_test("guest-triple-fault", vm(kernel="bad", debug_exit="yes"), [r"bad.*triple fault"],
         extra=[("bad", images.triple_fault)], quick=True)
for write in (False, True):
    bad_test(f"guest-touches-all-{'writing' if write else 'reading'}",
             vm(kernel="bad", debug_exit="yes"), [r"vm bad: "],
             extra=[("bad", lambda w=write: images.touch_all(w))], limit=180)
bad_test("guest-dead-halt", vm(kernel="bad", debug_exit="yes"), [], limit=60,
         extra=[("bad", images.dead_halt)], until=[GOOD_END])
for seed in range(8):
    bad_test(f"guest-random-bytes-{seed}", vm(kernel="bad", debug_exit="yes"), [], limit=60,
             extra=[("bad", lambda s=seed: images.random_bytes(s))], until=[GOOD_END])


# ---- the Intel machine ----

def together(names):
    """One configuration of these cases: its text, the modules, and for each case its name, what is
    expected, the name of its machine and its lines. Machines and modules get names of their own."""
    config, extra, parts = GOOD, [], []
    for name, text, expected, files, _ in CASES:
        if name not in names:
            continue
        own = f"bad{len(parts)}"
        text = text.replace("[vm bad]", f"[vm {own}]")
        for file, content in files:
            text = re.sub(rf"= {file}$", f"= {file}{len(parts)}", text, flags=re.MULTILINE)
            extra.append((f"{file}{len(parts)}", content()))
        first = config.count("\n") + 1
        config += text
        parts.append((name, expected, own, range(first, config.count("\n") + 1)))
    return config, extra, parts


def about(text, own, lines):
    """What Roost has said of a case: of its machine, by the name that it has alone, or of its
    lines."""
    for line in text.splitlines():
        of_config = re.search(r"roost\.conf:(\d+)", line)
        if re.search(rf"\b{own}\b", line) or of_config and int(of_config.group(1)) in lines:
            yield re.sub(rf"\b{own}\b", "bad", line)


def intel_test(name, cases, words, until=None):
    """All these cases in one boot, for a boot takes long there."""

    @test(f"intel/bad-input-{name}", limit=240, needs=NEEDS)
    def run(t):
        config, extra, parts = together(cases)
        text = boot(t, config, extra, cpu=bochs.SKYLAKE, words=words, until=until)
        t.expect(text, GOOD_END, "the end of the good guest")
        for case, expected, own, lines in parts:
            said = "\n".join(about(text, own, lines))
            missing = [e for e in expected
                       if not re.search(e, said if own in config else text, re.MULTILINE)]
            t.sub(case, not missing, f"nothing matches {missing}")


GUESTS = [c[0] for c in CASES if c[0].startswith("guest-")]
# What is of AMD's machine only: that processor can scale the TSC, for one.
ALONE = {"no-svm", "no-nested-paging", "initrd-too-large", "tsc-khz"}
intel_test("configuration", [c[0] for c in CASES if c[0] not in ALONE.union(GUESTS)],
           words="on-idle=poweroff frobnicate=7")
intel_test("guests", GUESTS, words="on-idle=poweroff", until=[GOOD_END])
cannot("intel/bad-input-initrd-too-large", "GRUB takes minutes to read a CD of 60 MiB there")


@test("bad-input/failure-reaches-make", limit=60, needs=NEEDS)
def failure_reaches_exit_status(t):
    """A debug exit that is not 0 becomes the emulator's exit status, through debug-exit=0xf4."""
    box = test_guest(t, guest_image("fail"), words=RIG_WORDS)
    status, _ = box.run(t.log, t.deadline.left())
    t.check(status not in (None, 0, 1), f"the emulator ended with status {status}")
