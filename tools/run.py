#!/usr/bin/python3
"""`make run`: Roost on the emulated AMD machine with one guest, its shell in this terminal.

Options come from make: KERNEL, INITRD, CMDLINE, CPUS, MEMORY of the guest, CPU (the emulator's
processor model), ROOST (further words for Roost's command line).
"""

import os
import sys
from pathlib import Path

import machine


def option(name, default):
    return os.environ.get(name) or default


def main():
    kernel = Path(option("KERNEL", machine.KERNEL))
    own_kernel = "KERNEL" in os.environ and os.environ["KERNEL"]
    initrd = option("INITRD", None if own_kernel else machine.INITRD)
    for path in filter(None, (kernel, initrd)):
        if not Path(path).is_file():
            sys.exit(f"make run: there is no file {path}")
    try:
        memory = machine.parse_size(option("MEMORY", "512M"))
        cpus = int(option("CPUS", "1"))
    except ValueError:
        sys.exit("make run: CPUS is a number, MEMORY a size such as 512M or 2G")
    guest = machine.linux_guest(
        machine.BUILD / "run", kernel=kernel, initrd=initrd and Path(initrd),
        cmdline=option("CMDLINE", machine.GUEST_CMDLINE), cpu=option("CPU", machine.EPYC),
        cpus=cpus, memory=memory, words=("on-idle=poweroff " + option("ROOST", "")).strip())
    os.chdir(guest.workdir)
    argv = guest.argv(serial="mon:stdio")
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
