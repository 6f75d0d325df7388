"""Debian's kernel as a guest: to its shell, a script there, power-off, on 1, 2 and 4 CPUs."""

import hashlib
import re
import time

import machine
from guests import MODELS, Shell, shell_guest
from harness import test

MEMORY = 512 << 20


def files_and_processes(sh, t):
    sh.command("mkdir -p /tmp/work && cd /tmp/work")
    sh.command("seq 1 20000 > numbers && cp numbers copy && cmp numbers copy")
    text = sh.command("sort -rn numbers | head -n 1; wc -l < copy; md5sum numbers copy | uniq -w 32 -d | wc -l")
    t.check(re.fullmatch(r"20000\s+20000\s+1\s*", text), f"files are wrong: {text!r}")
    text = sh.command("for i in 1 2 3 4 5 6 7 8; do (echo done $i > out.$i) & done; wait; cat out.* | sort | wc -l")
    t.check(text.split() == ["8"], f"eight processes gave {text!r}")
    text = sh.command("ps | grep -c '[k]threadd'")
    t.check(text.split() == ["1"], "ps does not see the kernel's threads")
    sh.command("rm -r /tmp/work && cd /")


def copy_data(sh, t, mib):
    text = sh.command(f"dd if=/dev/zero bs=1M count={mib} 2>/dev/null | md5sum")
    t.check(text.startswith(hashlib.md5(bytes(mib << 20)).hexdigest()),
            f"{mib} MiB of zeros sum to {text!r}")
    text = sh.command(f"dd if=/dev/urandom of=/tmp/r bs=64k count={mib} 2>/dev/null && "
                      "wc -c < /tmp/r && rm /tmp/r")
    t.check(text.split() == [str(mib << 16)], f"dd wrote {text!r} bytes")


def clock(sh, t, lag):
    before = time.time()
    text = sh.command("date +%s")
    after = time.time()
    t.check(before - lag < int(text) < after + 1,
            f"the guest's date {text.strip()} is not within {lag - 1} s of {before:.1f}..{after:.1f}")
    begin = time.time()
    sh.command("sleep 3")
    lasted = time.time() - begin
    t.check(2.9 < lasted < 4.5, f"sleep 3 lasted {lasted:.2f} s")
    text = sh.command("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")
    t.note(f"clock source {text.strip()}")


def interrupts(sh, t, cpus):
    def timer_counts():
        text = sh.command("grep -E 'LOC:|ttyS0|CPU0' /proc/interrupts")
        local = re.search(r"LOC:((?:\s+\d+)+)", text)
        serial = re.search(r"^\s*4:((?:\s+\d+)+)", text, re.MULTILINE)
        t.check(local, "no local timer interrupts are listed")
        t.check(serial, "no interrupts of the serial port are listed")
        return [int(n) for n in local.group(1).split()], sum(map(int, serial.group(1).split()))

    local, serial = timer_counts()
    t.check(len(local) == cpus, f"{len(local)} CPUs are counted, not {cpus}")
    for cpu in range(cpus):
        sh.command(f"taskset {1 << cpu:x} sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'")
    local2, serial2 = timer_counts()
    for cpu in range(cpus):
        t.check(local2[cpu] > local[cpu], f"the timer interrupts of CPU {cpu} do not count")
    t.check(serial2 > serial, "the interrupts of the serial port do not count")


# What a processor without mitigations lacks (Bochs has no IBRS) is no fault of Roost's.
COMPLAINTS = ("dmesg | grep -E 'BUG:|WARNING:|Oops|segfault|Bad FPU|soft lockup|rcu.*stall'"
              " | grep -v -e hw-vuln -e 'RETBleed: WARNING: Spectre v2'")


def no_complaints(sh, t):
    text = sh.command(f"{COMPLAINTS} || true")
    t.check(not text.strip(), f"the kernel complains: {text.strip()[:200]}")


def script(sh, t, cpus, mib=64, real_time=True, lag=2):
    """mib: how much to copy; without real_time the machine has a time of its own; lag: seconds that the
    date may be late, as each level reads whole seconds from a clock when it starts."""
    text = sh.command("nproc; uname -r; dmesg | wc -l")
    t.check(text.split()[0] == str(cpus), f"nproc says {text.split()[0]}, not {cpus}")
    files_and_processes(sh, t)
    copy_data(sh, t, mib)
    if real_time:
        clock(sh, t, lag)
    else:
        t.sub_skip("the guest's clock against this computer's",
                   "its time is that of its instructions")
    interrupts(sh, t, cpus)
    no_complaints(sh, t)


def linux_test(model, cpus, quick):
    @test(f"linux/{cpus}-cpu@{model}", limit=240, quick=quick, cores=0 if cpus > 1 else 1,
          needs=("build/gcc", "build/guest-files"))
    def run(t):
        box, talk = shell_guest(t, cpu=MODELS[model], cpus=cpus, memory=MEMORY,
                                options=["-rtc", "base=utc"])
        try:
            begin = time.monotonic()
            sh = Shell(t, talk)
            sh.expect("To leave, type poweroff", "the two lines that say how to leave")
            sh.expect("Ctrl-a", "the two lines that say how to leave")
            sh.begin()
            t.note(f"shell after {time.monotonic() - begin:.1f} s")
            script(sh, t, cpus)
            talk.sendline("poweroff")
            t.check(box.wait(30) == 0, "poweroff in the guest did not end the run cleanly")
        finally:
            box.kill()


@test("linux/debug-build", limit=240, cores=0, needs=("build/debug", "build/guest-files"))
def debug_build(t):
    """The image with assertions: locks held, no flush forgotten. It runs the same script."""
    box, talk = shell_guest(t, cpu=machine.MAX, cpus=2, memory=MEMORY,
                            options=["-rtc", "base=utc"],
                            image=machine.BUILD / "debug" / "roost.elf")
    try:
        sh = Shell(t, talk)
        sh.begin()
        script(sh, t, 2)
        talk.sendline("poweroff")
        t.check(box.wait(30) == 0, "poweroff in the guest did not end the run cleanly")
    finally:
        box.kill()


for each_model in MODELS:
    for each_cpus in (1, 2, 4):
        linux_test(each_model, each_cpus, quick=(each_model, each_cpus) == ("epyc", 1))


def make_run(t, target, mib):
    """`make run` or its like, on a terminal: the shell comes, poweroff ends it."""
    import pexpect

    child = pexpect.spawn("make", ["--no-print-directory", f"BUILD={machine.BUILD}", "CPUS=2",
                                   f"MEMORY={mib}M", target], cwd=str(machine.ROOT),
                          timeout=t.deadline.left(), encoding="utf-8", codec_errors="replace")
    child.logfile_read = open(t.log, "a", encoding="utf-8")
    try:
        sh = Shell(t, child)
        sh.wait_prompt()
        child.send("nproc; grep MemTotal /proc/meminfo\r")
        sh.expect(r"\n2\r", "two CPUs")
        total = int(sh.expect(r"MemTotal:\s+(\d+) kB", "the guest's memory").group(1))
        t.check((mib - 80) << 10 < total < mib << 10, f"the guest has {total} kB of {mib} MiB")
        sh.wait_prompt()
        child.send("poweroff\r")
        child.expect(pexpect.EOF, timeout=t.deadline.left())
        child.close()
        t.check(child.exitstatus == 0, f"make {target} ended with {child.exitstatus}")
    finally:
        child.close(force=True)


@test("linux/make-run", limit=120, needs=("build/gcc", "build/guest-files"))
def run_amd(t):
    make_run(t, "run", 300)
