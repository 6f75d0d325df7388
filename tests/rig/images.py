"""Small hostile guests as multiboot ELF32 images, made here from their machine code."""

import random
import struct

LOAD_AT = 0x100000
MULTIBOOT = struct.pack("<III", 0x1BADB002, 0, (-0x1BADB002) & 0xFFFFFFFF)


def elf32(code):
    """An executable whose only segment is a multiboot header and this 32-bit code."""
    headers = 52 + 32
    body = MULTIBOOT + code
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1,
                         LOAD_AT + len(MULTIBOOT), 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, headers, LOAD_AT, LOAD_AT, len(body), len(body) + 4096,
                          7, 4)
    return header + segment + body


def triple_fault():
    """lidt of an empty table, then a breakpoint."""
    return elf32(b"\xbc\x00\x08\x10\x00"  # mov $0x100800, %esp: behind the code
                 b"\x31\xc0"              # xor %eax, %eax
                 b"\x50\x50"              # push %eax, twice
                 b"\x0f\x01\x1c\x24"      # lidt (%esp)
                 b"\xcc")                 # int3


def dead_halt():
    return elf32(b"\xfa\xf4\xeb\xfd")  # cli; 1: hlt; jmp 1b


def random_bytes(seed, size=65536):
    return elf32(random.Random(seed).randbytes(size))


DEBUG_EXIT = b"\xb8\x00\x00\x00\x00\x66\xba\xf4\x00\xef\xf4"  # mov $0, %eax; mov $0xf4, %dx; out; hlt


def echo():
    """Sends back what comes on COM1, LF behind each CR; `~` is the debug exit, and `!` is written to
    the first byte at 2 MiB, too. With interrupts on: Bochs 2.7 sees the host's late while a guest has
    them off, and its serial line overruns."""
    return elf32(b"\xfb"                      # sti
                 b"\x66\xba\xfd\x03"          # 1: mov $0x3fd, %dx
                 b"\xec\xa8\x01"              # in (%dx), %al; test $1, %al
                 b"\x74\xf7"                  # jz 1b
                 b"\x66\xba\xf8\x03"          # mov $0x3f8, %dx
                 b"\xec\x3c\x7e"              # in (%dx), %al; cmp $'~', %al
                 b"\x74\x13"                  # je 3f
                 b"\x3c\x21\x75\x05"          # cmp $'!', %al; jne 2f
                 b"\xa2\x00\x00\x20\x00"      # mov %al, 0x200000
                 b"\xee\x3c\x0d"              # 2: out %al, (%dx); cmp $'\\r', %al
                 b"\x75\xe0"                  # jne 1b
                 b"\xb0\x0a\xee"              # mov $'\\n', %al; out %al, (%dx)
                 b"\xeb\xdb" +                # jmp 1b
                 DEBUG_EXIT)                  # 3:


def log_ports():
    """Three lines to COM2, the last one without its end, two to port 0xE9, and at COM1 what both ports
    read as; then the debug exit."""
    com2, debug = b"to COM2\r\nagain\n" + b"x" * 100 + b"cut", b"to the port\n\n"

    def out(port, at, size):
        return (b"\x66\xba" + struct.pack("<H", port) +         # mov $port, %dx
                b"\xbe" + struct.pack("<I", at) +               # mov $at, %esi
                b"\xb9" + struct.pack("<I", size) + b"\xf3\x6e")  # mov $size, %ecx; rep outsb

    def show(port, bit):
        return (b"\x66\xba" + struct.pack("<H", port) +         # mov $port, %dx
                b"\xec\x3c" + bytes([bit]) +                    # in (%dx), %al; cmp $bit, %al
                b"\x0f\x94\xc0\x04\x30"                        # sete %al; add $'0', %al
                b"\x66\xba\xf8\x03\xee")                       # mov $0x3f8, %dx; out %al, (%dx)

    end = b"\xb0\x0a\xee"                                       # mov $'\n', %al; out %al, (%dx)
    size = len(out(0, 0, 0)) * 2 + len(show(0, 0)) * 2 + len(end) + len(DEBUG_EXIT)
    text = LOAD_AT + len(MULTIBOOT) + size
    return elf32(out(0x2f8, text, len(com2)) + out(0xe9, text + len(com2), len(debug)) +
                 show(0x2fd, 0x60) + show(0xe9, 0xe9) + end + DEBUG_EXIT + com2 + debug)


def touch_all(write):
    """A word every 20 KiB of the 4 GiB that 32 bits reach is read, or written above 512 MiB, then the
    debug exit."""
    begin = 0x20000000 if write else 0
    access = b"\x89\x07" if write else b"\x8b\x07"  # mov %eax, (%edi) or mov (%edi), %eax
    return elf32(b"\xbf" + struct.pack("<I", begin) +  # mov $begin, %edi
                 access +
                 b"\x81\xc7\x00\x50\x00\x00"          # add $20480, %edi
                 b"\x73\xf6" +                        # jnc to the access
                 DEBUG_EXIT)
