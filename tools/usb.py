#!/usr/bin/python3
"""`make usb DEVICE=/dev/sdX`: writes build/roost.iso to a USB stick, after asking.

It writes only to what the kernel calls a whole, removable disk that nothing uses; a stick that says
it is not removable (some large ones do) is not taken either.
"""

import os
import stat
import sys
from pathlib import Path

import iso

BLOCK = 4 << 20


def parts(name, sysfs):
    """Kernel names of a disk and of its partitions."""
    disk = Path(sysfs) / "block" / name
    return [name] + sorted(p.name for p in disk.iterdir() if (p / "partition").exists())


def users(name, sysfs, mounts, swaps):
    """What uses the disk of that name or a partition of it, in words."""
    found = []
    for part in parts(name, sysfs):
        where = [line.split()[1] for line in mounts.splitlines()
                 if line.split()[:1] == [f"/dev/{part}"]]
        found += [f"{part} is mounted at {place}" for place in where]
        if any(line.split()[:1] == [f"/dev/{part}"] for line in swaps.splitlines()):
            found.append(f"{part} is swap space")
        folder = Path(sysfs) / "block" / name / ("" if part == name else part) / "holders"
        found += [f"{part} is a part of {h.name}" for h in
                  (sorted(folder.iterdir()) if folder.is_dir() else [])]
    return found


def refusal(device, size, sysfs="/sys", mounts=None, swaps=None, is_block=None):
    """Why size bytes are not written to that device, or None. What is left out is asked of this
    computer; tests say it themselves."""
    path = Path(device).resolve()
    if is_block is None:
        is_block = path.exists() and stat.S_ISBLK(path.stat().st_mode)
    if not is_block:
        return "it is not a block device"
    disk = Path(sysfs) / "block" / path.name
    if not disk.is_dir():
        return "it is not a whole disk: name the disk, not one of its partitions"
    if (disk / "removable").read_text().strip() != "1":
        return "it is not removable"
    sectors = int((disk / "size").read_text())
    if sectors * 512 < size:
        return f"it has room for {sectors * 512 >> 20} MiB, {-(-size >> 20)} MiB are needed"
    used = users(path.name, sysfs,
                 Path("/proc/self/mounts").read_text() if mounts is None else mounts,
                 Path("/proc/swaps").read_text() if swaps is None else swaps)
    return "it is in use: " + ", ".join(used) if used else None


def write(source, device):
    """Copies the image and reads it back."""
    with open(source, "rb") as image, open(device, "r+b") as disk:
        while block := image.read(BLOCK):
            disk.write(block)
        disk.flush()
        os.fsync(disk.fileno())
        os.posix_fadvise(disk.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        image.seek(0)
        disk.seek(0)
        while block := image.read(BLOCK):
            if disk.read(len(block)) != block:
                raise OSError(f"{device} does not hold what was written to it")


def main(argv):
    if len(argv) != 2:
        sys.exit("make usb: which stick? make usb DEVICE=/dev/sdX (lsblk lists the disks)")
    device, size = argv[1], iso.ISO.stat().st_size
    why = refusal(device, size)
    if why:
        sys.exit(f"make usb: {device} is not written: {why}")
    if not os.access(device, os.W_OK):
        sys.exit(f"make usb: {device} cannot be written by you; run it as root")
    model = Path("/sys/block") / Path(device).resolve().name / "device" / "model"
    name = model.read_text().strip() if model.exists() else "no name"
    print(f"Everything on {device} ({name}) will be lost.")
    try:
        answer = input("Type its name once more to go on: ")
    except EOFError:
        answer = ""
    if answer.strip() != device:
        sys.exit("Nothing was written.")
    write(iso.ISO, device)
    print(f"{device} is ready.")


if __name__ == "__main__":
    main(sys.argv)
