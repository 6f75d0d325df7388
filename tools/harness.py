"""The test runner's parts: registering tests, running each in a process of its own, counting.

A test is a function with the decorator @test; it gets a Run and fails by any exception. A test runs
in its own process, which is killed with all that it started when its time limit is over.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import machine

LOGS = machine.BUILD / "logs"
SCRATCH = machine.BUILD / "test"
TAIL_LINES = 30


class Failure(Exception):
    """What a test found wrong, in words for the reader of the report."""


class Skip(Exception):
    """Why a test could not be made here."""


@dataclass
class Test:
    name: str
    function: object
    limit: float
    quick: bool
    cores: int
    needs: tuple


@dataclass
class Result:
    status: str = "ok"
    detail: str = ""
    passed: int = 0  # individual tests inside, when there are some
    failed: list = field(default_factory=list)
    skipped: list = field(default_factory=list)  # [what, why] of individual tests inside
    notes: list = field(default_factory=list)
    seconds: float = 0.0


TESTS = []

# The suites that need no machine, and those of other machines than AMD's (QEMU).
NO_MACHINE = ("build", "unit", "fuzz", "lint", "docs")
AMD = "AMD (QEMU)"
MACHINES = {"intel": "Intel (Bochs)", "ryzen": "AMD (Bochs)"}


def place(name):
    """The machine that a test is for, or None, and the kind of test: its suite; on another machine
    the suite of AMD's that the rest of the name begins with, and `guest` when there is none."""
    suite, _, rest = name.partition("/")
    if suite in NO_MACHINE:
        return None, suite
    if suite not in MACHINES:
        return AMD, suite
    kinds = {t.name.partition("/")[0] for t in TESTS}
    return MACHINES[suite], next((k for k in kinds if re.match(rf"{k}\b", rest)), "guest")


def test(name, limit=60, quick=False, cores=1, needs=()):
    """Registers a test. limit: seconds; cores: of this machine that it keeps busy, 0 for all of
    them (it measures time); needs: names of tests that must have passed before."""

    def register(function):
        if any(t.name == name for t in TESTS):
            raise ValueError(f"two tests are called {name}")
        TESTS.append(Test(name, function, limit, quick, cores, tuple(needs)))
        return function

    return register


class Run:
    """What a running test has: a scratch directory, a log, and ways to start things in time."""

    def __init__(self, name, limit):
        slug = re.sub(r"[^\w.-]+", "_", name)
        self.name = name
        self.dir = SCRATCH / slug
        self.log = LOGS / f"{slug}.log"
        self.deadline = machine.Deadline(limit)
        self.result = Result()

    def check(self, condition, message):
        if not condition:
            raise Failure(message)

    def skip(self, reason):
        raise Skip(reason)

    def note(self, text):
        """A line for the report, also when the test passes."""
        self.result.notes.append(text)

    def sub(self, name, ok, detail=""):
        """Counts one individual test inside this one."""
        if ok:
            self.result.passed += 1
        else:
            self.result.failed.append(f"{name} {detail}".strip())

    def sub_skip(self, name, reason):
        """Counts one individual test that could not be made here."""
        self.result.skipped.append((name, reason))

    def run(self, argv, ok=(0,), **kwargs):
        """Runs a program, its output into the log too. Fails when its status is not in ok."""
        argv = [str(a) for a in argv]
        print("$", shlex.join(argv), flush=True)
        child = subprocess.run(argv, cwd=kwargs.pop("cwd", machine.ROOT), text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, errors="replace",
                               timeout=self.deadline.left(), **kwargs)
        print(child.stdout, flush=True)
        if ok is not None and child.returncode not in ok:
            raise Failure(f"{argv[0]} ended with status {child.returncode}")
        return child

    def make(self, *words):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        return self.run(["make", "--no-print-directory", *words], env=env)

    def expect(self, text, pattern, what):
        """The match of pattern in text, or a failure that says what was expected."""
        match = re.search(pattern, text, re.MULTILINE)
        if match is None:
            raise Failure(f"{what}: nothing matches {pattern!r}")
        return match


def _child(entry, result_path):
    """The process of one test."""
    run = Run(entry.name, entry.limit)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = os.open(run.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    result = run.result
    try:
        subprocess.run(["rm", "-rf", str(run.dir)], check=True)
        run.dir.mkdir(parents=True)
        entry.function(run)
        if result.failed:
            result.status = "fail"
    except Skip as reason:
        result.status, result.detail = "skip", str(reason)
    except Failure as failure:
        result.status, result.detail = "fail", str(failure)
    except subprocess.TimeoutExpired as slow:
        result.status, result.detail = "fail", f"no end within {slow.timeout:.0f} s"
    except BaseException as problem:  # pylint: disable=broad-except
        traceback.print_exc()
        result.status, result.detail = "fail", f"{type(problem).__name__}: {problem}"
    sys.stdout.flush()
    result_path.write_text(json.dumps(result.__dict__))


class Runner:
    """Runs the chosen tests, as many at once as there are cores, and reports."""

    def __init__(self, tests, cores=None):
        self.waiting = list(tests)
        self.chosen = {t.name for t in tests}
        self.cores = cores or max(2, os.cpu_count() or 2)
        self.running = {}  # pid -> (test, start, result path, cores)
        self.done = {}  # name -> Result
        self.counts = {}  # (machine, kind) -> [passed, failed, skipped]
        self.skipped = {}  # (machine, reason) -> names

    def _start(self, entry, cores):
        result_path = SCRATCH / f"result.{len(self.done) + len(self.running)}.{os.getpid()}.json"
        result_path.unlink(missing_ok=True)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setsid()
                _child(entry, result_path)
                code = 0
            finally:
                os._exit(code)
        self.running[pid] = (entry, time.monotonic(), result_path, cores)

    def _startable(self):
        """The next test that can begin now, with the cores it takes, or None."""
        free = self.cores - sum(r[3] for r in self.running.values())
        for entry in self.waiting:
            if any(n in self.chosen and n not in self.done for n in entry.needs):
                continue
            cores = min(entry.cores or self.cores, self.cores)
            if cores <= free:
                return entry, cores
            if not entry.cores:
                return None  # it needs the whole machine: let that become free
        return None

    def _finish(self, pid, result):
        entry, begin, result_path, _ = self.running.pop(pid)
        if result is None:
            try:
                result = Result(**json.loads(result_path.read_text()))
            except (OSError, ValueError):
                result = Result("fail", "the test's process died")
        result_path.unlink(missing_ok=True)
        result.seconds = time.monotonic() - begin
        self._report(entry, result)

    def _report(self, entry, result):
        self.done[entry.name] = result
        single = not result.passed and not result.failed
        passed = 1 if single and result.status == "ok" else result.passed
        failed = max(1, len(result.failed)) if result.status == "fail" else 0
        skipped = [(f"{entry.name}: {what}", why) for what, why in result.skipped]
        if result.status == "skip":
            skipped.append((entry.name, result.detail))
        where = place(entry.name)
        count = self.counts.setdefault(where, [0, 0, 0])
        for i, more in enumerate((passed, failed, len(skipped))):
            count[i] += more
        for what, why in skipped:
            self.skipped.setdefault((where[0], why), []).append(what)
        word = {"ok": "ok  ", "skip": "skip", "fail": "FAIL"}[result.status]
        count = f" ({result.passed} tests)" if result.passed else ""
        reason = f": {result.detail}" if result.detail else ""
        print(f"{word} {entry.name}{count} {result.seconds:.1f}s{reason}")
        for text in result.notes:
            print(f"     {text}")
        for what, why in result.skipped:
            print(f"     skipped: {what}: {why}")
        for text in result.failed:
            print(f"     failed: {text}")
        if result.status == "fail":
            self._show_log(Run(entry.name, 0).log)
        sys.stdout.flush()

    @staticmethod
    def _show_log(log):
        try:
            lines = log.read_text(errors="replace").splitlines()
        except OSError:
            return
        print(f"     log: {os.path.relpath(log)}")
        for line in lines[-TAIL_LINES:]:
            print("     | " + re.sub(r"\x1b[\[()][0-9;?]*[A-Za-z]?|[^\x20-\x7e\t]", "", line)[:180])

    def _blocked(self):
        """Reports the tests that cannot be made because one that they need failed."""
        for entry in list(self.waiting):
            bad = [n for n in entry.needs if n in self.done and self.done[n].status != "ok"]
            if bad:
                self.waiting.remove(entry)
                status = "skip" if self.done[bad[0]].status == "skip" else "fail"
                self._report(entry, Result(status, f"not made, for it needs {bad[0]}"))

    def _reap(self):
        for pid, (entry, begin, _, _) in list(self.running.items()):
            ended, _ = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._kill_group(pid)
                self._finish(pid, None)
            elif time.monotonic() - begin > entry.limit + 5:
                self._kill_group(pid)
                os.waitpid(pid, 0)
                self._finish(pid, Result("fail", f"no end within {entry.limit:.0f} s"))

    @staticmethod
    def _kill_group(pid):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def go(self):
        """Runs everything; returns the exit status of the whole."""
        SCRATCH.mkdir(parents=True, exist_ok=True)
        LOGS.mkdir(parents=True, exist_ok=True)
        try:
            while self.waiting or self.running:
                self._blocked()
                while (next_one := self._startable()) is not None:
                    self.waiting.remove(next_one[0])
                    self._start(*next_one)
                self._reap()
                time.sleep(0.02)
        finally:
            for pid in self.running:
                self._kill_group(pid)
        return self._summary()

    def _summary(self):
        """What was skipped and why, a table for each machine, and the line that sums up."""
        for (where, reason), names in sorted(self.skipped.items(), key=str):
            print(f"skipped, {where or 'no machine'}: {reason}")
            for name in sorted(names):
                print(f"     {name}")
        if any(where for where, _ in self.counts):
            for where in [AMD, *MACHINES.values(), None]:
                self._table(where)
        passed, failed, skipped = (sum(c[i] for c in self.counts.values()) for i in range(3))
        tail = f", {skipped} skipped" if skipped else ""
        print(f"{passed} passed, {failed} failed{tail}")
        return 1 if failed or not passed else 0

    def _table(self, where):
        rows = {kind: count for (w, kind), count in self.counts.items() if w == where}
        if not rows:
            return
        rows["together"] = [sum(column) for column in zip(*rows.values())]
        print(f"{where or 'no machine':15}{'passed':>9}{'failed':>9}{'skipped':>9}")
        for kind, count in rows.items():
            print(f"  {kind:13}" + "".join(f"{n:9}" for n in count))


def cannot(name, reason):
    """Registers a test that one machine cannot show, so that it is counted as skipped there."""

    @test(name, limit=5)
    def run(t):
        t.skip(reason)


def load_suites():
    """Imports every suite of tests/rig; importing registers its tests."""
    suites = machine.ROOT / "tests" / "rig"
    sys.path.insert(0, str(suites))
    for path in sorted(Path(suites).glob("suite_*.py")):
        __import__(path.stem)
