"""The image: both compilers, the same bytes twice, its size, and what must not be in it."""

import hashlib
import re
import shutil
from pathlib import Path

import machine
from harness import test

ROOMS = machine.ROOMS
MAX_STRIPPED = 300 * 1024
MAX_IMAGE_LINES = 27_000
MAX_FILE_LINES = 800

# The functions that switch a guest's vector state may name the instructions that do so.
VECTOR_STATE = r"f?xsave\w*|f?xrstor\w*|fxrstor\w*|fn?init|ldmxcsr|stmxcsr|emms|fnclex|fild\w*"
VECTOR_OWNERS = r"^(fpu_\w+|svm_load|svm_put)$"



def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def image_sources():
    return sorted(p for room in ROOMS for p in (machine.ROOT / room).rglob("*")
                  if p.suffix in (".c", ".h", ".S"))


@test("build/gcc", limit=300, quick=True, cores=2)
def gcc(t):
    """T-X6, T-V2: warnings are errors, of either compiler; among them are those for stores that
    nobody reads and for functions that should be static."""
    t.make("-j2", f"BUILD={machine.BUILD}", "image")


@test("build/clang", limit=300, quick=True, cores=2)
def clang(t):
    """T-X6, T-V2: as with gcc."""
    t.make("-j2", f"BUILD={machine.BUILD}/clang", "CC=clang", "image")


@test("build/debug", limit=300, cores=2)
def debug(t):
    t.make("-j2", f"BUILD={machine.BUILD}/debug", "DEBUG=1", "image")


@test("build/guest-files", limit=300, quick=True)
def guest_files(t):
    """Debian's kernel and the initial file system; the latter is the same bytes twice."""
    t.make(f"BUILD={machine.BUILD}", "guest")
    again = t.dir / "initrd.img"
    t.run(["tools/make_initramfs.sh", again])
    t.check(digest(again) == digest(machine.INITRD), "two initial file systems differ")


@test("build/reproducible", limit=300, cores=2, needs=("build/gcc",))
def reproducible(t):
    """The same bytes from another directory."""
    copy = t.dir / "another-place"
    for name in (*ROOMS, "guest-tests", "tools"):
        if (machine.ROOT / name).is_dir():
            shutil.copytree(machine.ROOT / name, copy / name)
    for name in ("Makefile", "linker.ld"):
        shutil.copy(machine.ROOT / name, copy / name)
    t.make("-j2", "-C", str(copy), "BUILD=out", "image")
    t.check(digest(copy / "out" / "roost.elf") == digest(machine.IMAGE),
            "the image depends on the directory that it was built in")


@test("build/size", quick=True, needs=("build/gcc",))
def size(t):
    stripped = t.dir / "roost.stripped"
    t.run(["objcopy", "--strip-all", machine.IMAGE, stripped])
    size_now = stripped.stat().st_size
    t.note(f"the image has {size_now} bytes stripped, at most {MAX_STRIPPED}")
    t.check(size_now <= MAX_STRIPPED, f"{size_now} bytes stripped, more than {MAX_STRIPPED}")


def vector_uses(disassembly):
    """(function, instruction) wherever an x87, MMX or vector register or operation is named."""
    function = "?"
    for line in disassembly.splitlines():
        label = re.match(r"^[0-9a-f]+ <(.+)>:$", line)
        if label:
            function = label.group(1)
            continue
        fields = line.split("\t")
        if len(fields) < 3:
            continue
        text = fields[2].split("#")[0]
        operation = text.split()[0] if text.split() else ""
        operation = re.sub(r"^(rep|repz|repnz|lock|rex\S*|data16|cs|ds)$", "", operation)
        if re.search(r"%([xyz]mm\d|mm\d|st\b|k[0-7])", text) or re.match(r"^(f|v)[a-z]", operation) \
                and not re.match(r"^(verr|verw|vm|vmrun)", operation) \
                or re.fullmatch(VECTOR_STATE, operation):
            yield function, text.strip()


@test("build/T-F1-no-vector-code", quick=True, needs=("build/gcc", "build/clang"))
def no_vector_code(t):
    """T-F1: nothing outside the functions that switch vector state touches it."""
    for image in (machine.IMAGE, machine.BUILD / "clang" / "roost.elf"):
        seen = False
        for function, text in vector_uses(t.run(["objdump", "-d", "-j", ".text", image]).stdout):
            allowed = re.match(VECTOR_OWNERS, function) and \
                re.fullmatch(VECTOR_STATE, text.split()[0])
            seen = seen or bool(allowed)
            t.check(allowed, f"{image.parent.name}: {function} has `{text}`")
        t.check(seen, "not even the vector state's own functions were found: is this test blind?")


@test("build/T-A2-no-unused-code", quick=True, needs=("build/gcc",))
def no_unused_code(t):
    """T-A2: there is no function or object that nobody calls or reads."""
    flags = t.make("-s", f"BUILD={machine.BUILD}", "print-LDFLAGS").stdout.split()
    objects = t.make("-s", f"BUILD={machine.BUILD}", "print-OBJS").stdout.split()
    flags.remove("--fatal-warnings")  # each removed section counts as one
    done = t.run(["ld", *flags, "--print-gc-sections", "-T", "linker.ld", *objects,
                  machine.BUILD / "symbols.o", "-o", t.dir / "linked.elf"])
    removed = re.findall(r"removing unused section '(\.(?:text|data|rodata|bss)\.[^']+)' in file "
                         r"'([^']+)'", done.stdout)
    for section, owner in removed:
        name = section.split(".")[2]
        source = Path(owner.split("/obj/")[1].removesuffix(".o"))
        # Called in its own file, and inlined there every time.
        if len(re.findall(rf"\b{name}\(", (machine.ROOT / source).read_text())) > 1:
            continue
        if not re.search(r"\.(str|cst)\d", section):
            t.sub(f"{owner} {section}", False)
    t.sub("unused sections", True)


@test("build/lines", quick=True)
def lines(t):
    total = code = 0
    for path in image_sources():
        text = path.read_text()
        count = len(text.splitlines())
        total += count
        bare = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
        code += sum(bool(line.strip()) for line in bare.splitlines())
        t.check(count <= MAX_FILE_LINES, f"{path} has {count} lines")
    for path in (p for d in ("tests", "guest-tests", "tools") for p in (machine.ROOT / d).rglob("*")
                 if p.suffix in (".c", ".h", ".S", ".py", ".sh")):
        count = len(path.read_text().splitlines())
        t.check(count <= MAX_FILE_LINES, f"{path} has {count} lines")
    t.note(f"the image has {total} lines, at most {MAX_IMAGE_LINES}; {code} are neither blank nor comment")
    t.check(total <= MAX_IMAGE_LINES, f"{total} lines in the image")


@test("build/rooms", quick=True)
def rooms(t):
    """No source outside the rooms, and the layering: who may include whom."""
    allowed = set(ROOMS) | {"guest-tests", "tests", "tools"}
    for path in machine.ROOT.rglob("*"):
        part = path.relative_to(machine.ROOT).parts
        if path.suffix in (".c", ".h", ".S") and part[0] not in ("build", ".git"):
            t.check(part[0] in allowed, f"{path} is in no room")
    for path in image_sources():
        room = path.relative_to(machine.ROOT).parts[0]
        for other in re.findall(r'#include "(\w+)/', path.read_text()):
            t.check(other not in ("tests", "tools"), f"{path} includes from {other}/")
            t.check(room != "lib" or other == "lib", f"{path} in lib/ includes from {other}/")
            t.check(room == "svm" or other != "svm" or room == "kernel",
                    f"{path} includes from the back end")


@test("build/segments", quick=True, needs=("build/gcc", "build/clang"))
def segments(t):
    """No segment of the file is both writable and executable."""
    for image in (machine.IMAGE, machine.BUILD / "clang" / "roost.elf"):
        headers = t.run(["readelf", "-lW", image]).stdout
        loads = re.findall(r"^\s+LOAD\s+(?:0x\w+\s+){5}(.{3})\s", headers, re.MULTILINE)
        t.check(loads, "no segments found")
        t.check(any("E" in f for f in loads), "no executable segment found")
        for flags in loads:
            t.check(not ("W" in flags and "E" in flags), f"{image} has a segment {flags}")


@test("build/T-A3-locks-are-taken", quick=True)
def locks_are_taken(t):
    """T-A3: every lock that is declared is taken somewhere and released somewhere."""
    text = "\n".join(p.read_text() for p in image_sources())
    locks = set(re.findall(r"^\s*(?:static )?struct spinlock (\w+)\s*[;=]", text, re.MULTILINE))
    t.check(locks, "no locks found")
    for lock in sorted(locks):
        for what in ("spin_lock", "spin_unlock"):
            used = re.search(rf"\b{what}\(&?[\w>.\[\]()-]*\b{lock}\)", text)
            t.sub(f"{lock}: {what}", bool(used), "is never called")


@test("build/T-E7-emulator-has-one-entry", quick=True, needs=("build/gcc",))
def emulator_has_one_entry(t):
    """T-E7: what is outside of the emulator calls only what platform/emulate.h declares."""
    objects = sorted((machine.BUILD / "obj").rglob("*.c.o"))
    inside = [o for o in objects if o.name.startswith("emulate")]
    outside = [o for o in objects if o not in inside]
    t.check(len(inside) > 1, "the emulator's objects were not found")

    def symbols(files, kinds):
        done = t.run(["nm", *files])
        return set(re.findall(rf"^\s*[0-9a-f]* [{kinds}] (\w+)$", done.stdout, re.MULTILINE))

    public = (machine.ROOT / "platform" / "emulate.h").read_text()
    called = symbols(inside, "TDRB") & symbols(outside, "U")
    t.check(called, "nobody calls the emulator")
    for name in sorted(called):
        t.sub(name, bool(re.search(rf"\b{name}\b", public)), "is called but not in emulate.h")
