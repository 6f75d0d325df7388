"""The benchmarks against the figures kept, and that they repeat exactly."""

import re

import machine
from guests import need_bochs
from harness import test

BENCH = ["/usr/bin/python3", "tools/bench/bench.py"]


@test("build/bench-files", limit=300, needs=("build/gcc", "build/guest-tests", "build/guest-files"))
def bench_files(t):
    t.make(f"BUILD={machine.BUILD}", "bench-files")


def kept_figures_test(name, which, limit, *needs):
    @test(name, limit=limit, cores=0, needs=("build/bench-files", *needs))
    def run(t):
        """No figure is more than 5 % worse than the one in docs/benchmarks.md."""
        if which == "intel":
            need_bochs(t)
        done = t.run([*BENCH, "--check", "--machine", which], ok=None)
        for line in re.findall(r"^WORSE (.*)$", done.stdout, re.MULTILINE):
            t.sub(line, False)
        t.check(done.returncode == 0, "the benchmarks failed")


kept_figures_test("bench/kept-figures", "amd", 1500, "build/nested-files")
# Two processors there must have the same figures, which shows that they repeat.
kept_figures_test("intel/bench-kept-figures", "intel", 2400, "build/nested-files")


@test("bench/deterministic", limit=300, cores=0, needs=("build/bench-files",))
def deterministic(t):
    """Two runs of the single operations give the same figures."""
    first, second = (t.run([*BENCH, "--operations", "--machine", "amd"]).stdout for _ in range(2))
    t.check("cpuid" in first, "there are no figures")
    t.check(first == second, "the figures of two runs differ")
