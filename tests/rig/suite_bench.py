"""The benchmarks against the figures kept, and that they repeat exactly."""

import re

import machine
from harness import test

BENCH = ["/usr/bin/python3", "tools/bench/bench.py"]


@test("build/bench-files", limit=300, needs=("build/gcc", "build/guest-tests", "build/guest-files"))
def bench_files(t):
    t.make(f"BUILD={machine.BUILD}", "bench-files")


@test("bench/kept-figures", limit=900, needs=("build/bench-files",))
def kept_figures(t):
    """No figure is more than 5 % worse than the one in docs/benchmarks.md."""
    done = t.run([*BENCH, "--check"], ok=None)
    for line in re.findall(r"^WORSE (.*)$", done.stdout, re.MULTILINE):
        t.sub(line, False)
    t.check(done.returncode == 0, "the benchmarks failed")


@test("bench/deterministic", limit=300, needs=("bench/kept-figures",))
def deterministic(t):
    """A second run of the single operations gives the same figures."""
    log = machine.BUILD / "bench" / "operations.log"
    first = re.findall(r"^bench .*$", log.read_text(errors="replace"), re.MULTILINE)
    t.check(len(first) > 5, "the first run left no figures")
    t.run([*BENCH, "--operations"])
    second = re.findall(r"^bench .*$", log.read_text(errors="replace"), re.MULTILINE)
    t.check(first == second, f"the figures differ: {sorted(set(first) ^ set(second))}")
