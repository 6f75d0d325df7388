"""The unit tests: every tests/unit/test_*.c, one program each, and the lines that they reach."""

import gzip
import json
import os
import re

import machine
from harness import Failure, test

OUT = machine.BUILD / "unit"
UNITS = sorted((machine.ROOT / "tests" / "unit").glob("test_*.c"))
ROOMS = machine.ROOMS


def make(t, *targets):
    return t.make("-f", "tools/unit.mk", f"BUILD={machine.BUILD}", *targets)


def unit_test(name):
    @test(f"unit/{name}", limit=300, quick=True)
    def run(t):
        # Objects are shared: the whole is built once, and this finds its own part ready.
        make(t, str(OUT / name))
        env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP")
        child = t.run([OUT / name], ok=None, env=env)
        planned = re.search(r"^1\.\.(\d+)", child.stdout, re.MULTILINE)
        results = re.findall(r"^(not ok|ok) \d+ - (\S+)", child.stdout, re.MULTILINE)
        for verdict, case in results:
            t.sub(f"{name}.{case}", verdict == "ok")
        if planned is None or len(results) != int(planned.group(1)):
            raise Failure(f"ended early, with status {child.returncode}")
        if child.returncode != 0 and all(v == "ok" for v, _ in results):
            raise Failure(f"status {child.returncode}, though each test passed")


@test("unit/build", limit=600, quick=True, cores=2)
def build_all(t):
    """Builds all programs together; one that does not compile fails under its own name."""
    for counts in OUT.glob("obj/**/*.gcda"):
        counts.unlink()
    t.run(["make", "-k", "-j2", "--no-print-directory", "-f", "tools/unit.mk",
           f"BUILD={machine.BUILD}"], ok=None)


for unit in UNITS:
    unit_test(unit.stem)
for entry in __import__("harness").TESTS:
    if entry.name.startswith("unit/test_"):
        entry.needs = ("unit/build",)


@test("unit/vmx-check-mutants", limit=120)
def mutants(t):
    """The check of VM entries without any one of its rules fails its unit test."""
    flags = ["-std=gnu17", "-DUNIT_TEST", "-I."]
    refuse = "return broken(out,"
    head, *rules = t.run(["gcc", "-E", *flags, "vmx/check.c"]).stdout.split(refuse)
    (t.dir / "check.i").write_text("int mutant(void);\n" + head + "".join(
        f"if (mutant() != {i}) {refuse}{rest}" for i, rest in enumerate(rules, 1)))
    (t.dir / "mutant.c").write_text('#include <stdlib.h>\nint mutant(void) { return atoi(getenv("MUTANT")); }\n')
    program = t.dir / "mutants"
    t.run(["gcc", "-w", *flags, t.dir / "check.i", t.dir / "mutant.c", "vmx/fields.c",
           "tests/unit/test_vmx_check.c", "-lcmocka", "-o", program])
    for i in range(len(rules) + 1):
        done = t.run([program], ok=None, env={"MUTANT": str(i)})
        t.sub(f"rule {i}" if i else "all rules", (done.returncode == 0) == (i == 0))
    t.check(len(rules) > 100, f"only {len(rules)} rules were found")


def count_lines(t):
    """{file: {line: times reached}} of our sources, over all programs."""
    reached = {}
    for counts in sorted(OUT.glob("obj/**/*.gcda")):
        t.run(["gcov", "--json-format", "-o", counts.with_suffix(".o"), counts], cwd=t.dir)
        for packed in t.dir.glob("*.gcov.json.gz"):
            report = json.loads(gzip.decompress(packed.read_bytes()))
            packed.unlink()
            for part in report["files"]:
                if part["file"].split("/")[0] in ROOMS:
                    lines = reached.setdefault(part["file"], {})
                    for line in part["lines"]:
                        number = line["line_number"]
                        lines[number] = lines.get(number, 0) + line["count"]
    return reached


@test("unit/coverage", limit=120, quick=True,
      needs=tuple(f"unit/{u.stem}" for u in UNITS))
def coverage(t):
    reached = count_lines(t)
    t.check(reached, "no line of any source was counted")
    rooms = {}
    table = []
    for name, lines in sorted(reached.items()):
        hit = sum(1 for n in lines.values() if n)
        table.append(f"{name:34} {hit:5} of {len(lines):5} lines  {100 * hit / len(lines):5.1f} %")
        room = rooms.setdefault(name.split("/")[0], [0, 0])
        room[0] += hit
        room[1] += len(lines)
    hit, total = (sum(r[i] for r in rooms.values()) for i in (0, 1))
    (machine.BUILD / "coverage.txt").write_text("\n".join(table) + "\n")
    if os.environ.get("COVERAGE_FILES"):
        for line in table:
            t.note(line)
    parts = ", ".join(f"{r} {100 * h / n:.0f} %" for r, (h, n) in sorted(rooms.items()) if n)
    t.note(f"lines reached by unit tests: {hit} of {total}, {100 * hit / total:.1f} % ({parts})")
