"""Pseudo terminals for serial links, with a peer on them that knows SLIP and KISS from their descriptions.

  pty_peer.py bridge   two terminals, joined like a null modem
  pty_peer.py slip     one terminal; each frame comes back with its bytes reversed
  pty_peer.py kiss     one terminal; each AX.25 UI frame comes back reversed, with its two addresses exchanged

Prints the names of the terminals, one a line, and ends with its standard input.
"""
import os
import pty
import select
import sys
import tty

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD


def frames_of(buffer):
    """Takes the whole frames out of a buffer, escapes undone."""
    while END in buffer:
        at = buffer.index(END)
        raw, buffer[: at + 1] = bytes(buffer[:at]), b""
        if raw:
            yield raw.replace(bytes([ESC, ESC_END]), bytes([END])).replace(bytes([ESC, ESC_ESC]), bytes([ESC]))


def framed(data):
    escaped = data.replace(bytes([ESC]), bytes([ESC, ESC_ESC])).replace(bytes([END]), bytes([ESC, ESC_END]))
    return bytes([END]) + escaped + bytes([END])


def answer(mode, frame):
    if mode == "slip":
        return frame[::-1]
    command, ax25 = frame[0], frame[1:]
    if command != 0 or len(ax25) < 16 or ax25[14:16] != b"\x03\xf0":
        return None
    to, by, data = bytearray(ax25[7:14]), bytearray(ax25[0:7]), ax25[16:]
    to[6] = (to[6] & 0x7E) | 0x80
    by[6] = (by[6] & 0x7E) | 0x01
    return bytes([0]) + bytes(to) + bytes(by) + b"\x03\xf0" + data[::-1]


mode = sys.argv[1]
masters = []
for _ in range(2 if mode == "bridge" else 1):
    master, slave = pty.openpty()
    tty.setraw(slave)
    # The slave stays open: a terminal that nobody has open would read as hung up.
    masters.append(master)
    print(os.ttyname(slave), flush=True)

buffer = bytearray()
while True:
    ready, _, _ = select.select([0, *masters], [], [])
    if 0 in ready and not os.read(0, 1):
        break
    for master in ready:
        if master == 0:
            continue
        data = os.read(master, 4096)
        if mode == "bridge":
            os.write(masters[1 - masters.index(master)], data)
            continue
        buffer += data
        for frame in frames_of(buffer):
            reply = answer(mode, frame)
            if reply is not None:
                os.write(master, framed(reply))
