"""The fuzz targets of tests/fuzz/, each a short run from a fixed seed; any finding is a failure."""

import re

import machine
from harness import test

OUT = machine.BUILD / "fuzz"
FLAGS = ["-std=gnu17", "-g", "-O1", "-fsanitize=fuzzer,address,undefined",
         "-fno-sanitize-recover=all", "-DUNIT_TEST", "-I.", f"-I{machine.BUILD}"]
SECONDS = 15


def fuzz_test(path):
    @test(f"fuzz/{path.stem.removeprefix('fuzz_')}", limit=SECONDS + 105)
    def run(t):
        sources = [s for line in re.findall(r"^// sources:(.*)$", path.read_text(), re.MULTILINE)
                   for s in line.split()]
        OUT.mkdir(parents=True, exist_ok=True)
        program = OUT / path.stem
        t.run(["clang", *FLAGS, path, *sources, "-lcmocka", "-o", program])
        done = t.run([program, "-seed=1", f"-max_total_time={SECONDS}", "-print_final_stats=1",
                      "-verbosity=0", "-max_len=4096"], cwd=t.dir)
        rounds = re.search(r"stat::number_of_executed_units:\s+(\d+)", done.stdout)
        t.check(rounds and int(rounds.group(1)) > 100, "hardly anything was tried")
        t.note(f"{rounds.group(1)} inputs")


for each in sorted((machine.ROOT / "tests" / "fuzz").glob("fuzz_*.c")):
    fuzz_test(each)
