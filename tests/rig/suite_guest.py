"""The guest tests: each image of guest-tests/ under Roost, on both processor models.

A guest test prints `ok CHECK` or `not ok CHECK` for each check and ends with a RESULT line and a
write of the number of failed checks to port 0xF4, which Roost reports. A comment `vm: KEY=VALUE ...`
in the first lines of a test's source asks for another machine: cpus, host_cpus, memory, cmdline
(its words separated by commas), limit in seconds, clock=host, machine=amd or intel.

On one CPU the machine counts instructions instead of following the host's clock, so that a test of
timing does not depend on what else this computer does. With more CPUs, or with clock=host for one
that waits for whole seconds, it does not, and the test has this computer to itself.
"""

import re

import machine
from guests import MODELS, RIG_WORDS, guest_image, test_guest
from harness import cannot, test

FOLDER = machine.ROOT / "guest-tests"
# Not tests: what must fail, what the image embeds, what make bench runs, what is told what to do.
OTHERS = {"fail", "bench", "demo", "svm_dirty", "vmx_dirty"}
NAMES = sorted(p.stem for p in FOLDER.glob("*.c") if p.stem not in OTHERS)


# What the machine of a test is unless its comment says otherwise.
MACHINES = {"smp": {"cpus": "4"}, "rtc": {"clock": "host"}}


def wishes(name):
    """The `vm:` comment of a test's source as a dictionary."""
    head = "\n".join((FOLDER / f"{name}.c").read_text().splitlines()[:25])
    found = dict(MACHINES.get(name, {}))
    for line in re.findall(r"\bvm: (.*?)(?:\*/)?\s*$", head, re.MULTILINE):
        for word in line.split():
            key, _, value = word.partition("=")
            found[key] = value
    return found


@test("build/guest-tests", limit=300, quick=True, cores=2)
def build_guest_tests(t):
    t.make("-j2", f"BUILD={machine.BUILD}", "guest-tests")


@test("build/guest-tests-clang", limit=300, cores=2)
def build_guest_tests_clang(t):
    t.make("-j2", f"BUILD={machine.BUILD}/clang", "CC=clang", "guest-tests")


def verdict(t, text, exit_value):
    """Counts the checks of a run and holds them against its RESULT line."""
    for good, name in re.findall(r"^(ok|not ok) (.*)$", text, re.MULTILINE):
        t.sub(name, good == "ok")
    result = t.expect(text, r"^RESULT (\S+): (\d+) passed, (\d+) failed(?:, (\d+) skipped)?$",
                      "the test's own result")
    passed, failed = int(result.group(2)), int(result.group(3))
    t.check(exit_value == failed, f"{failed} checks failed but {exit_value} was the debug exit")
    t.check((passed, failed) == (t.result.passed, len(t.result.failed)),
            "checks are missing between the lines printed and the result")
    for name, reason in re.findall(r"^skip (.*): (.*)$", text, re.MULTILINE):
        t.sub_skip(name, reason)


def host_cpus(want):
    return int(want.get("host_cpus", want.get("cpus", 1)))


def counted(want):
    """Whether time is counted in instructions. With more CPUs than one the emulator would run them
    in turns, which is too slow."""
    return host_cpus(want) == 1 and want.get("clock") != "host"


def run_guest(t, name, cpu, words="", config=None):
    want = wishes(name)
    box = test_guest(t, guest_image(name), cpu=cpu, cpus=int(want.get("cpus", 1)),
                     host_cpus=host_cpus(want),
                     options=machine.COUNTED if counted(want) else (),
                     memory=machine.parse_size(want.get("memory", "64M")),
                     cmdline=want.get("cmdline", "").replace(",", " "),
                     words=f"{RIG_WORDS} {words}".rstrip(), config=config)
    status, text = box.run(t.log, t.deadline.left())
    ended = re.search(r"vm test: debug exit (\d+)", text)
    t.check(status is not None, "the machine did not end in time")
    t.check("PANIC" not in text, "Roost panicked")
    t.check(ended, f"Roost reported no debug exit; the emulator ended with status {status}")
    return text, int(ended.group(1))


def guest_test(name, model):
    want = wishes(name)

    @test(f"guest/{name}@{model}", limit=int(want.get("limit", 90)), quick=model == "epyc",
          cores=1 if counted(want) else 0,
          needs=("build/gcc", "build/guest-tests"))
    def run(t):
        verdict(t, *run_guest(t, name, MODELS[model]))


# The same test with the second port, which is there when its output is given to the log.
COM2 = machine.guest_config("test", kernel="guest.elf", cmdline="com2", memory="64M", debug_exit="yes",
                            log="com2")


@test("guest/uart-com2", limit=90, needs=("build/gcc", "build/guest-tests"))
def uart_com2(t):
    verdict(t, *run_guest(t, "uart", machine.EPYC, config=COM2))


@test("guest/failure-is-noticed", limit=60, quick=True, needs=("build/gcc", "build/guest-tests"))
def failure_is_noticed(t):
    """The image that fails on purpose is seen to fail, and by all three signs."""
    noticed(t, machine.EPYC)


def noticed(t, cpu):
    text, exit_value = run_guest(t, "fail", cpu)
    t.check(exit_value == 1, f"the debug exit was {exit_value}, not 1")
    t.expect(text, r"^not ok this check fails on purpose", "the failing check")
    t.expect(text, r"^RESULT fail: 1 passed, 1 failed$", "the failing result")


for each_name in NAMES:
    for each_model in MODELS:
        if wishes(each_name).get("machine", "amd") == "amd":
            guest_test(each_name, each_model)
        else:
            cannot(f"guest/{each_name}@{each_model}", "of VMX, which is Intel's")
