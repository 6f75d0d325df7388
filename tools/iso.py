#!/usr/bin/python3
"""`make iso` and `make netboot`: Roost with one Linux guest, for a machine of its own.

Both are the same tree of files with GRUB in front: build/roost.iso, one image for CD and USB stick
that starts by BIOS and by UEFI, and build/netboot, a directory for a TFTP server. The guest's
options come from make, as for `make run`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import machine

PROGRAMS = ("grub-mkrescue", "grub-mknetdir", "xorriso", "mformat")
PLATFORMS = tuple(Path("/usr/lib/grub") / p for p in ("i386-pc", "x86_64-efi"))
ISO = machine.BUILD / "roost.iso"
NETBOOT = machine.BUILD / "netboot"

# (title, Multiboot version, word for the command line); the key of an entry is its number.
ENTRIES = (
    ("Roost", 2, ""),
    ("Roost, serial console", 2, "console=com1,115200"),
    ("Roost, console on the screen", 2, "console=screen"),
    ("Roost by Multiboot 1, serial console", 1, "console=com1,115200"),
    ("Roost by Multiboot 1, console on the screen", 1, "console=screen"),
)

# Under UEFI the firmware's own console has the serial line already, where it is redirected.
MENU_HEAD = """\
set timeout=5
if [ "$grub_platform" = pc ]; then
	if serial --unit=0 --speed=115200; then
		terminal_input console serial
		terminal_output console serial
	fi
fi
insmod all_video
"""


def missing():
    """Names of what is not installed and an image needs."""
    found = [p for p in PROGRAMS if shutil.which(p) is None]
    return found + [str(p) for p in PLATFORMS if not p.is_dir()]


def entry(title, version, words, modules, after=""):
    """One entry of GRUB's menu. modules: names of files beside the image, each with arguments."""
    suffix = "2" if version == 2 else ""
    lines = [f"multiboot{suffix} /boot/roost.elf {words}".rstrip()]
    lines += [f"module{suffix} /boot/{m.split()[0]} {m}" for m in modules]
    return "\n\t".join([f'menuentry "{title}" {{', *lines, *filter(None, [after])]) + "\n}\n"


def menu(words, modules):
    text = MENU_HEAD
    for key, (title, version, console) in enumerate(ENTRIES, 1):
        body = entry(title, version, f"{console} {words}".strip(), modules)
        text += body.replace('" {', f'" --hotkey={key} {{', 1)
    return text


def write_tree(top, grub_cfg, files, image=None):
    """The directory that GRUB will find as its root. files: name in /boot, and a path or text."""
    shutil.rmtree(top, ignore_errors=True)
    boot = Path(top) / "boot"
    (boot / "grub").mkdir(parents=True)
    (boot / "grub" / "grub.cfg").write_text(grub_cfg)
    shutil.copyfile(image or machine.IMAGE, boot / "roost.elf")
    for name, source in files.items():
        if isinstance(source, Path):
            shutil.copyfile(source, boot / name)
        else:
            (boot / name).write_text(source)


def pack(tree, target):
    """The image for CD and USB stick. What GRUB's tools say is only shown when they fail."""
    _quietly(["grub-mkrescue", "-o", target, tree])


def _quietly(argv):
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    if done.returncode:
        sys.exit(f"{done.stdout}\n{argv[0]} failed")


def main(what):
    lacking = missing()
    if lacking:
        sys.exit(f"make {what} needs the Debian packages grub-common grub-pc-bin grub-efi-amd64-bin "
                 f"xorriso mtools; missing: {' '.join(lacking)}")
    guest = machine.user_guest(f"make {what}", "512M")
    files = {"vmlinuz": guest["kernel"]}
    if guest["initrd"]:
        files["initrd.img"] = guest["initrd"]
    files["roost.conf"] = machine.guest_config(
        kernel="vmlinuz", initrd="initrd.img" if guest["initrd"] else None,
        cmdline=guest["cmdline"], memory=f"{guest['memory'] >> 20}M", cpus=guest["cpus"])
    grub_cfg = menu(guest["words"], list(files))
    if what == "netboot":
        write_tree(NETBOOT, grub_cfg, files)
        _quietly(["grub-mknetdir", f"--net-directory={NETBOOT}", "--subdir=boot/grub"])
        print(f"{NETBOOT}: for a TFTP server; BIOS loads boot/grub/i386-pc/core.0, UEFI loads "
              "boot/grub/x86_64-efi/core.efi")
        return
    tree = machine.BUILD / "iso"
    write_tree(tree, grub_cfg, files)
    pack(tree, ISO)
    print(f"{ISO}: for CD and USB stick, BIOS and UEFI, {ISO.stat().st_size >> 20} MiB")


if __name__ == "__main__":
    main(sys.argv[1])
