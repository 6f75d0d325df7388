"""What stands on a machine's screen: pictures of it, read back to text with Roost's own font."""

import re

import machine

WIDTH, HEIGHT = 8, 16
FONT = (machine.ROOT / "drivers" / "font.bin").read_bytes()
GLYPHS = {FONT[i * HEIGHT:(i + 1) * HEIGHT]: chr(0x20 + i) for i in range(0x5F)}
GLYPHS[FONT[0x5F * HEIGHT:]] = "\ufffd"


# Eight pixels, 1 where there is any light, as the byte that they are in the font.
DOTS = {bytes(b >> 7 - i & 1 for i in range(WIDTH)): b for b in range(256)}
LIGHT = bytes([0] + [1] * 255)


def picture(path):
    """(columns, rows, bytes) of a PPM file, a byte a pixel: 0 for black, else 1. What Roost draws is
    grey, so red tells enough."""
    data = path.read_bytes()
    head = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", data)
    return int(head.group(1)), int(head.group(2)), data[head.end()::3].translate(LIGHT)


def read(path):
    """(lines of text without blanks at their ends, (column, row) of the cursor or None). A cell that
    is no glyph of the font is shown as a NUL."""
    width, height, pixels = picture(path)
    lines, cursor = [], None
    for row in range(height // HEIGHT):
        begins = [line * width for line in range(row * HEIGHT, (row + 1) * HEIGHT)]
        text = ""
        for column in range(width // WIDTH):
            at = column * WIDTH
            bits = bytes(DOTS[pixels[b + at:b + at + WIDTH]] for b in begins)
            if bits not in GLYPHS:
                bits = bytes(b ^ 0xFF for b in bits)
                cursor = (column, row)
            text += GLYPHS.get(bits, "\0")
        lines.append(text.rstrip())
    return lines, cursor


def render(text, columns):
    """The lines that a terminal of that width shows of what was said on a serial line."""
    lines, at = [[]], 0
    for c in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text):
        if c == "\n":
            lines.append([])
            at = 0
        elif c in "\r\b":
            at = 0 if c == "\r" else max(0, at - 1)
        elif c == "\t":
            at = min(at // 8 * 8 + 8, columns - 1)
        else:
            if at == columns:
                lines.append([])
                at = 0
            line = lines[-1]
            line += " " * (at + 1 - len(line))
            line[at] = c if " " <= c <= "~" else "\ufffd"
            at += 1
    return ["".join(x).rstrip() for x in lines]
