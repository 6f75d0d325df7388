#!/usr/bin/python3
"""`make run`: Roost on the emulated AMD machine with one guest, its shell in this terminal.

Options come from make: KERNEL, INITRD, CMDLINE, CPUS, MEMORY of the guest, CPU (the emulator's
processor model), ROOST (further words for Roost's command line).
"""

import os

import machine


def main():
    guest = machine.linux_guest(machine.BUILD / "run", cpu=os.environ.get("CPU") or machine.EPYC,
                                **machine.user_guest("make run", "512M"))
    os.chdir(guest.workdir)
    argv = guest.argv(serial="mon:stdio")
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
