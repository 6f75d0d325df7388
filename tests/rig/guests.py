"""What the suites share that start guests under Roost."""

import bochs
import machine
from harness import Failure

PROMPT = "guest# "
# Roost's own end of a run, for rigs: see docs/test-rigs.md.
RIG_WORDS = "on-idle=poweroff debug-exit=0xf4"
MODELS = {"epyc": machine.EPYC, "max": machine.MAX}


def guest_image(name):
    return machine.BUILD / "guest" / f"{name}.elf"


def need_bochs(t):
    lacking = bochs.missing()
    if lacking:
        t.skip("not installed: " + " ".join(lacking))


def test_guest(t, guest, cpu=machine.EPYC, cpus=1, host_cpus=None, memory=64 << 20, cmdline="",
               name="test", options=(), config=None, extra=(), words=RIG_WORDS,
               image=None, port=1):
    """A machine with Roost and one multiboot guest, whose path is given. The processor may be one of
    Bochs', which has no options. extra: (name, content) of further modules; config: text instead of
    the usual roost.conf."""
    there = machine.host_memory(memory, guest)
    host_cpus = host_cpus or cpus
    if cpu in bochs.MODELS:
        need_bochs(t)
        box = bochs.Bochs(t.dir / "machine", cpu=cpu, cpus=host_cpus,
                          memory=max(bochs.MEMORY, there), limit=t.deadline.left())
        words = words.replace(" debug-exit=0xf4", "")  # it has no such device
    else:
        box = machine.Machine(t.dir / "machine", cpu=cpu, cpus=host_cpus, memory=there,
                              options=options)
        if config is not None or cpus > 1:
            box.spare_first_cpu()
    box.port = port
    modules = [box.stage("guest.elf", guest)]
    modules += [box.stage(n, content) for n, content in extra]
    if config is None:
        config = machine.guest_config(name, kernel="guest.elf", cmdline=cmdline or None, cpus=cpus,
                                      memory=f"{memory >> 20}M", debug_exit="yes")
    modules.append(box.configure(config))
    return box.roost(words, modules, image)


def with_machine(t, make, session):
    """As Machine.run(): an emulator that dies has shown nothing, and gets one more chance."""
    for last in (False, True):
        box = make()
        try:
            return session(box)
        except (Failure, OSError) as problem:
            died = box.wait(1)
            if last or died is None or died >= 0:
                raise Failure(f"{problem}; the emulator's status is {died}") from problem
            t.note(f"the emulator died of signal {-died}; once more")
        finally:
            box.kill()


def shell_guest(t, **kwargs):
    """A Linux guest at its shell: (machine, conversation)."""
    box = machine.linux_guest(t.dir / "machine", **kwargs)
    talk = box.spawn(t.log, t.deadline.left())
    return box, talk


class Shell:
    """A conversation with the guest's shell."""

    def __init__(self, t, talk):
        self.t = t
        self.talk = talk

    def wait_prompt(self):
        self.expect(PROMPT, "the guest's shell prompt")

    def expect(self, pattern, what):
        import pexpect

        found = self.talk.expect([pattern, r"PANIC|Kernel panic", pexpect.EOF, pexpect.TIMEOUT],
                                 timeout=self.t.deadline.left())
        self.t.check(found != 1, f"{what}: a panic came instead")
        self.t.check(found != 2, f"{what}: the machine ended instead")
        self.t.check(found != 3, f"{what}: nothing came in time")
        return self.talk.match

    def begin(self):
        """Waits for the prompt and turns the echo of what is typed off."""
        self.wait_prompt()
        self.talk.sendline("stty -echo cols 200")
        self.wait_prompt()

    def command(self, line):
        """Output of a command; fails when its status is not 0."""
        self.talk.sendline(line + "; echo status=$?=")
        self.expect(r"status=(\d+)=\r?\n", line)
        status, text = int(self.talk.match.group(1)), self.talk.before
        self.expect(PROMPT, line)
        self.t.check(status == 0, f"`{line}` ended with status {status}")
        return text.replace("\r", "")
