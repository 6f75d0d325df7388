"""Layout and static analysis of all C sources."""

import concurrent.futures
import re
import subprocess

import machine
from harness import test

ROOMS = machine.ROOMS
# The image's own flags that the analysers need to know.
FLAGS = ["-std=gnu17", "-ffreestanding", "-mcmodel=kernel", "-mno-red-zone", "-I.",
         f"-I{machine.BUILD}"]


def sources(*folders, suffixes=(".c",)):
    found = []
    for folder in folders:
        found += [p.relative_to(machine.ROOT) for p in (machine.ROOT / folder).rglob("*")
                  if p.suffix in suffixes]
    return sorted(found)


def each(t, command, files):
    """Runs command(file) on two files at a time; every one that complains is a failed test."""

    def one(path):
        argv = [str(a) for a in command(path)]
        done = subprocess.run(argv, cwd=machine.ROOT, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=t.deadline.left())
        return path, done

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for path, done in pool.map(one, files):
            noise = r"^\d+ warnings? (generated|treated)|^Suppressed |^Use -header-filter"
            said = [x for x in done.stdout.splitlines() if x and not re.match(noise, x)]
            bad = done.returncode != 0 or bool(said)
            if bad:
                print("\n".join(said))
            t.sub(str(path), not bad, said[0] if said else f"status {done.returncode}" if bad else "")


@test("lint/layout", limit=120, quick=True)
def layout(t):
    """clang-format would change nothing."""
    files = sources(*ROOMS, "guest-tests", "tests", "tools", suffixes=(".c", ".h"))
    each(t, lambda path: ["clang-format", "--dry-run", "-Werror", path], files)


@test("lint/sparse", limit=300)
def sparse(t):
    """Types beyond the compiler's: address spaces, declarations, constants."""
    # sparse reads _Atomic as a qualifier only, and lacks a builtin; a constant cut by a cast is
    # meant so.
    each(t, lambda path: ["sparse", "-m64", *FLAGS, "-D_Atomic(type)=__typeof__(type)",
                          "-D__builtin_ia32_rdtsc()=0ul", "-Wno-decl", "-Wno-cast-truncate", "-Wno-unknown-attribute", "-Wsparse-error", path],
         sources(*ROOMS))


@test("lint/clang-tidy", limit=900, cores=2)
def clang_tidy(t):
    each(t, lambda path: ["clang-tidy", "--quiet", path, "--", *FLAGS, "-mgeneral-regs-only"],
         sources(*ROOMS))


@test("lint/cppcheck", limit=600)
def cppcheck(t):
    t.run(["cppcheck", "--quiet", "-U__ASSEMBLER__", "--enable=warning,portability", "--std=c11",
           "--platform=unix64", "--inline-suppr", "--error-exitcode=1", "--suppress=unusedFunction",
           "--suppress=missingInclude", "--suppress=comparePointers",
           "--suppress=arrayIndexOutOfBoundsCond", "-I.", f"-I{machine.BUILD}", *sources(*ROOMS)])


@test("lint/python", limit=60, quick=True)
def python(t):
    for path in sources("tools", "tests", suffixes=(".py",)):
        done = t.run(["/usr/bin/python3", "-W", "error", "-c",
                      "import sys; compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')", path],
                     ok=None)
        t.sub(str(path), done.returncode == 0)


@test("lint/shell", limit=60, quick=True)
def shell(t):
    for path in [*sources("tools", suffixes=(".sh",)), "tools/initramfs/init", ".ci/run"]:
        program = "bash" if path == ".ci/run" else "sh"
        done = t.run([program, "-n", path], ok=None)
        t.sub(str(path), done.returncode == 0)
