"""The benchmarks against the figures kept, and that they repeat exactly."""

import re

import machine
from harness import test

BENCH = ["/usr/bin/python3", "tools/bench/bench.py"]


@test("build/bench-files", limit=300, needs=("build/gcc", "build/guest-tests", "build/guest-files"))
def bench_files(t):
    t.make(f"BUILD={machine.BUILD}", "bench-files")


@test("bench/kept-figures", limit=900, cores=0, needs=("build/bench-files", "build/nested-files"))
def kept_figures(t):
    """No figure is more than 5 % worse than the one in docs/benchmarks.md."""
    done = t.run([*BENCH, "--check"], ok=None)
    for line in re.findall(r"^WORSE (.*)$", done.stdout, re.MULTILINE):
        t.sub(line, False)
    t.check(done.returncode == 0, "the benchmarks failed")


@test("bench/deterministic", limit=300, cores=0, needs=("build/bench-files",))
def deterministic(t):
    """Two runs of the single operations give the same figures."""
    first, second = (t.run([*BENCH, "--operations"]).stdout for _ in range(2))
    t.check("cpuid" in first, "there are no figures")
    t.check(first == second, "the figures of two runs differ")
