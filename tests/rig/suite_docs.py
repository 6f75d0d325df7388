"""The documents: transcripts are replayed, menu entries are booted, and what is named is there.

A block that begins with ```console replay WORD ... is a transcript. `$ ` stands before a command
that is run in the source tree, `guest# ` and `roost> ` before what is typed at those prompts; every
other line is output, and a line `...` stands for lines that are not shown. The words behind
`replay` are pieces of the output that vary: each number in one stands for any number, and one
without numbers stands for any word. docs/test-rigs.md says it for writers.
"""

import os
import re
import shutil

import machine
from harness import test

README = machine.ROOT / "README.md"
DOCUMENTS = [README, *sorted((machine.ROOT / "docs").glob("*.md")),
             machine.ROOT / "guest-tests" / "README.md"]
ROOMS = ("boot", "kernel", "svm", "vmx", "mm", "platform", "drivers", "lib", "guest-tests", "tests",
         "tools", "docs")
QUESTION = "guests are there; really? (y/n)"
TYPED = re.compile(rf"(\$|guest#|roost>|{re.escape(QUESTION)}) (.+)")
DETACH = "^]"  # as a line of its own: typed behind the command before it
# What terminals and the emulator add to what is said.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NOISE = re.compile(r"^(make\[\d\]: .*|qemu(-system-x86_64)?: (module|warning: TCG) .*"
                   r"|VNC server running .*)$")


def name_of(path):
    return str(path.relative_to(machine.ROOT))


def blocks(path):
    """(info string, line number, lines) of each fenced block."""
    info, begin, lines = None, 0, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif info is None:
            info, begin, lines = line[3:].strip(), number, []
        else:
            yield info, begin, lines
            info, lines = None, []
    if info is not None:
        raise ValueError(f"{name_of(path)}:{begin}: the block has no end")


def prose(path):
    """The text without fenced blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


# ---- transcripts ----


def any_number(text):
    return re.sub(r"\d+", r"\\d+", re.escape(text))


def line_pattern(line, varying):
    """A regular expression for one line of output. Blanks at the end do not count, nor does how
    many stand elsewhere, for columns move with the width of numbers."""
    parts = re.split("(" + "|".join(map(re.escape, varying)) + ")", line) if varying else [line]
    pattern = ""
    for at, part in enumerate(parts):
        if at % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += any_number(part) if re.search(r"\d", part) else r"\S+"
    pattern = re.sub(r"(?:\\ )+", " +", pattern.rstrip("\\ "))
    return re.compile(pattern + r"\s*")


def sections(lines):
    """[(prompt, what is typed, lines of output)], in order; the first is at `$`."""
    found = []
    for line in lines:
        typed = TYPED.fullmatch(line)
        if typed:
            found.append((typed.group(1), typed.group(2), []))
        elif not found:
            raise ValueError(f"a transcript begins with a command, not with {line!r}")
        elif line.strip():
            found[-1][2].append(line)
    return found


def compare(t, said, shown, varying):
    """Holds what was said against what the document shows; neither counts empty lines."""
    said = [x for x in said if x.strip() and not NOISE.match(x)]
    at, skipping = 0, False
    for line in shown:
        if line == "...":
            skipping = True
            continue
        pattern = line_pattern(line, varying)
        begin = at
        while skipping and at < len(said) and not pattern.fullmatch(said[at]):
            at += 1
        got = said[at] if at < len(said) else "the end of the output"
        t.check(at < len(said) and pattern.fullmatch(got),
                f"the document says {line!r}, and there came "
                f"{said[begin] if skipping and begin < len(said) else got!r}")
        at, skipping = at + 1, False
    t.check(skipping or at >= len(said),
            f"the document does not show {said[at] if at < len(said) else ''!r}")


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, t, command):
        import pexpect

        env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        env.update(BUILD=str(machine.BUILD), TERM="dumb")
        command = re.sub(r"\bbuild/(?=roost\.elf|guest/)", f"{machine.BUILD}/", command)
        self.t = t
        self.child = pexpect.spawn("/bin/sh", ["-c", command], cwd=str(machine.ROOT), env=env,
                                   timeout=t.deadline.left(), encoding="utf-8",
                                   codec_errors="replace", dimensions=(50, 250))
        self.child.logfile_read = open(t.log, "a", encoding="utf-8")

    def lines(self, to_prompt):
        """Output up to the next prompt, or to the end."""
        import pexpect

        ends = [rf"(?:guest#|roost>|{re.escape(QUESTION)}) (?:\x1b\[6n)?"] if to_prompt else []
        found = self.child.expect([pexpect.TIMEOUT, pexpect.EOF, *ends],
                                  timeout=self.t.deadline.left())
        self.t.check(found, "nothing came in time")
        self.t.check(found == len(ends) + 1, "the program ended where a prompt should come")
        text = ESCAPES.sub("", self.child.before).replace("\r", "")
        # Behind a prompt at which nothing is typed any more the rest of the output goes on.
        return re.sub(r"^(guest#|roost>) ", "", text, flags=re.MULTILINE).split("\n")

    def type(self, text, more=""):
        self.child.send(text + "\r" + more)
        self.child.expect_exact(text, timeout=self.t.deadline.left())

    def end(self):
        self.child.close(force=True)


def replay(t, lines, varying):
    terminal = None
    steps = sections(lines)
    try:
        for at, (prompt, typed, shown) in enumerate(steps):
            following = steps[at + 1][0] if at + 1 < len(steps) else "$"
            if prompt == "$":
                terminal = Terminal(t, typed)
            else:
                more = "\x1d" if DETACH in shown else ""
                shown = [line for line in shown if line != DETACH]
                terminal.type(typed, more)
            compare(t, terminal.lines(following != "$"), shown, varying)
            if following == "$":
                terminal.end()
                t.check(terminal.child.exitstatus == 0,
                        f"it ended with status {terminal.child.exitstatus}")
    finally:
        if terminal:
            terminal.end()


def transcript_test(path, number, lines, varying):
    # Tests that a transcript runs must not run beside it a second time.
    wanted = re.findall(r"ONLY='\^([^']+)'", "\n".join(lines))

    @test(f"docs/transcript-{path.stem}-{number}", limit=180, quick=path == README,
          needs=("build/gcc", "build/guest-files", "build/guest-tests", *wanted))
    def run(t):
        t.note(f"{name_of(path)}: {lines[0]}")
        replay(t, lines, varying)


def register_transcripts():
    for path in DOCUMENTS:
        number = 0
        for info, _, lines in blocks(path):
            words = info.split()
            if words[:2] == ["console", "replay"]:
                number += 1
                transcript_test(path, number, lines, words[2:])


register_transcripts()


@test("docs/transcripts-are-marked", quick=True)
def transcripts_are_marked(t):
    """What looks like a transcript is one that is replayed."""
    for path in DOCUMENTS:
        for info, line, lines in blocks(path):
            looks = info.startswith("console") or any(x.startswith(("[roost] ", "roost> "))
                                                      for x in lines)
            t.sub(f"{name_of(path)}:{line}", not looks or info.startswith("console replay"),
                  "is not replayed")


# ---- menu entries of GRUB ----


def menu_entries():
    for info, _, lines in blocks(README):
        if info == "grub":
            yield "\n".join(lines)


def grub_files(entry):
    """{path on the disk: source} of the files that an entry names."""
    sources = {"roost.elf": machine.IMAGE, "vmlinuz": machine.KERNEL, "initrd.img": machine.INITRD}
    paths = re.findall(r"^\s*(?:multiboot2?|module2?) (\S+)", entry, re.MULTILINE)
    return {p: sources.get(p.rsplit("/", 1)[1]) for p in paths}


def configuration():
    """The example of roost.conf in README.md."""
    for info, _, lines in blocks(README):
        if info == "ini":
            return "\n".join(lines) + "\n"
    raise ValueError("README.md has no example of roost.conf")


def boot_entry(t, entry):
    import pexpect

    disk = t.dir / "disk"
    for path, source in grub_files(entry).items():
        target = disk / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source:
            shutil.copy(source, target)
        else:
            target.write_text(configuration())
    menu = disk / "boot" / "grub" / "grub.cfg"
    menu.parent.mkdir(parents=True)
    menu.write_text("serial --unit=0 --speed=115200\nterminal_output serial\nset timeout=0\n"
                    + entry + "\n")
    t.run(["grub-mkrescue", "-o", t.dir / "disk.iso", disk])
    # GRUB's Multiboot 1 does not go on without a screen.
    box = machine.Machine(t.dir / "machine", memory=1 << 30, options=["-vga", "std"])
    box.boot = ["-cdrom", "../disk.iso", "-boot", "d"]
    talk = box.spawn(t.log, t.deadline.left())
    try:
        for expected in (r"\[roost\] Roost \S+, loaded by GRUB", "guest# ", "roost> "):
            found = talk.expect([expected, "PANIC", "error:.*", r"roost\.conf:\d+:.*",
                                 pexpect.TIMEOUT], timeout=t.deadline.left() - 5)
            t.check(found == 0, f"{talk.after!r} came instead of {expected!r}")
            if expected.endswith(" "):
                talk.send("poweroff\r")
        t.check(box.wait(30) == 0, "poweroff at the prompt of Roost did not end the machine")
    finally:
        box.kill()


def grub_test(entry):
    variant = re.search(r"\bmultiboot2?\b", entry).group(0)

    @test(f"docs/grub-entry-{variant}", limit=180, needs=("build/gcc", "build/guest-files"))
    def run(t):
        for program in ("grub-mkrescue", "xorriso", "mformat"):
            if not shutil.which(program):
                t.skip(f"there is no {program} here")
        if not os.path.isdir("/usr/lib/grub/i386-pc"):
            t.skip("GRUB for BIOS is not here (Debian: grub-pc-bin)")
        boot_entry(t, entry)


for each_entry in menu_entries():
    grub_test(each_entry)


# ---- names ----


def anchor(heading):
    """As the usual renderers make them."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@test("docs/links", quick=True)
def links(t):
    """Each relative link leads to a file, and to a heading where it names one."""
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
            if re.match(r"\w+://", target):
                continue
            name, _, heading = target.partition("#")
            other = (path.parent / name).resolve() if name else path
            good = other.exists()
            if good and heading:
                text = re.sub(r"^```.*?^```", "", other.read_text(), flags=re.M | re.S)
                good = heading in [anchor(x) for x in re.findall(r"^#+ (.*)$", text, re.M)]
            t.sub(f"{name_of(path)}: {target}", good, "leads nowhere")


@test("docs/all-are-reached", quick=True)
def all_are_reached(t):
    """From README.md links lead to every document, directly or through others."""
    reached, todo = set(), [README]
    while todo:
        path = todo.pop()
        if path in reached or path not in DOCUMENTS:
            continue
        reached.add(path)
        todo += [(path.parent / x).resolve()
                 for x in re.findall(r"\]\(([^)\s#]+)", prose(path))]
    for path in DOCUMENTS:
        t.sub(name_of(path), path in reached, "cannot be reached from README.md")


def table_names(t, path, pattern, least):
    names = re.findall(pattern, (machine.ROOT / path).read_text(), re.MULTILINE)
    t.check(len(names) >= least, f"only {names} were found in {path}: is its table made otherwise?")
    return names


@test("docs/configuration-is-complete", quick=True)
def configuration_is_complete(t):
    """Every word of the command line and every key of roost.conf has its line and its paragraph."""
    text = (machine.ROOT / "docs" / "configuration.md").read_text()
    words = table_names(t, "kernel/cmdline.c", r'^\t\{"([\w-]+)",', 5)
    for word in words:
        t.sub(f"{word}=", f"| `{word}=` |" in text and f"* **{word}**" in text, "is not described")
    keys = table_names(t, "kernel/config.c", r'^\t\{"([\w-]+)",', 10)
    for key in keys:
        t.sub(key, f"| `{key}` |" in text and f"* **{key}**" in text, "is not described")
    for name in re.findall(r"^\| `([\w-]+)=?` \|", text, re.MULTILINE):
        t.sub(f"table line {name}", name in words + keys, "is described, and there is none")


@test("docs/shell-is-complete", quick=True)
def shell_is_complete(t):
    """Every command of Roost's shell, with its parameters, is in the table of docs/console.md, and
    in a transcript there."""
    text = (machine.ROOT / "docs" / "console.md").read_text()
    source = (machine.ROOT / "kernel" / "commands.c").read_text()
    typed = [line for info, _, lines in blocks(machine.ROOT / "docs" / "console.md")
             if info.startswith("console replay") for line in lines]
    names = table_names(t, "kernel/commands.c", r'^\t\{"([a-z ]+)", "', 15)
    t.sub("sorted", names == sorted(names), "the table is not")
    for name in names:
        words = re.search(rf'\{{"{name}", "(.*?)"', source).group(1)
        usage = f"{name} {words}".strip().replace("|", "\\|")
        t.sub(name, f"| `{usage}` |" in text, f"has no line `{usage}` in docs/console.md")
        # After a panic no command's end would come: host/panic-report looks at it.
        t.sub(f"{name}, shown", name == "panic" or any(re.match(rf"roost> {name}\b", x) for x in typed),
              "is in no transcript of docs/console.md")


def make_targets(t):
    """Names of all targets that make knows, files included."""
    data = t.run(["make", "-pRrq", "--no-print-directory", f"BUILD={machine.BUILD}", "help"],
                 ok=None).stdout
    return set(re.findall(r"^([\w-]+):(?!=)", data, re.MULTILINE))


@test("docs/make-targets", quick=True)
def targets(t):
    """What `make help` and the documents tell to make is a target; `make help` names the others."""
    known = make_targets(t)
    t.check("image" in known, "make named no targets")
    told = t.make("help").stdout
    inner = {"all", "guest", "guest-tests", "bench-files", "nested-files", "nested-qemu", "help"}
    for name in re.findall(r"\bmake ([a-z][\w-]*)", told):
        t.sub(f"make help: {name}", name in known, "is no target")
    for path in DOCUMENTS:
        for name in re.findall(r"`make ([a-z][\w-]*)", path.read_text()):
            t.sub(f"{name_of(path)}: make {name}", name in known, "is no target")
    phony = re.findall(r"^\.PHONY: (.*?[^\\])$", (machine.ROOT / "tools/targets.mk").read_text(),
                       re.MULTILINE | re.DOTALL)
    for name in re.sub(r"\\\n", " ", " ".join(phony)).split():
        t.sub(f"help of {name}", name in inner or f"make {name}" in told, "is not in `make help`")


@test("docs/names-exist", quick=True)
def names_exist(t):
    """Files and functions that a document names in code quotes are there; NAME in one stands for
    any."""
    sources = "\n".join(p.read_text(errors="replace") for room in ROOMS[:-1]
                        for p in (machine.ROOT / room).rglob("*")
                        if p.suffix in (".c", ".h", ".S", ".py", ".sh", ".mk"))
    for path in DOCUMENTS:
        for quoted in sorted(set(re.findall(r"`([^`\n]+)`", prose(path)))):
            if "NAME" in quoted:
                continue
            if re.fullmatch(rf"({'|'.join(ROOMS)})/[\w./*-]*", quoted):
                good = any(machine.ROOT.glob(quoted.rstrip("/")))
                t.sub(f"{name_of(path)}: {quoted}", good, "is not there")
            elif re.fullmatch(r"[a-z_0-9]+\(\)", quoted):
                good = re.search(rf"\b{quoted[:-2]}\(", sources)
                t.sub(f"{name_of(path)}: {quoted}", bool(good), "is not there")
