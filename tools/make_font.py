#!/usr/bin/python3
"""make_font.py PSF OUTPUT: the glyphs of ASCII, and one for all else, from a console font of 8x16.

drivers/font.bin was made so from Debian's fonts-spleen 1.9.1-1; drivers/font.txt has its licence.
"""

import gzip
import sys

PSF1 = b"\x36\x04"
HAS_512, HAS_TABLE = 1, 2
HEIGHT = 16
REPLACEMENT = 0xFFFD


def glyphs(data):
    """{character: bitmap} of a PSF 1 font with a Unicode table (Linux, drivers/tty/vt formats)."""
    if data[:2] != PSF1 or data[3] != HEIGHT or not data[2] & HAS_TABLE:
        sys.exit("not a PSF 1 font of 8x16 with a table of characters")
    count = 512 if data[2] & HAS_512 else 256
    table = memoryview(data)[4 + count * HEIGHT:].cast("H")
    found, number = {}, 0
    for code in table:
        if code == 0xFFFF:
            number += 1
        else:
            found.setdefault(code, data[4 + number * HEIGHT:4 + (number + 1) * HEIGHT])
    return found


def main():
    found = glyphs(gzip.open(sys.argv[1]).read())
    codes = [*range(ord(" "), 0x7F), REPLACEMENT if REPLACEMENT in found else ord("?")]
    with open(sys.argv[2], "wb") as output:
        output.write(b"".join(found[code] for code in codes))


if __name__ == "__main__":
    main()
