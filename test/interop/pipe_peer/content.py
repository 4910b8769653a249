"""What is in a data record: a CoAP message (RFC 7252) around a compact container (docs/protocol.md)."""

import struct
import zlib
from dataclasses import dataclass, field

CON, NON, ACK, RST = range(4)
PAYLOAD_MARKER = 0xFF
METHODS = {"GET": 1, "POST": 2, "PUT": 3, "DELETE": 4, "PATCH": 6}


@dataclass
class Message:
    type: int
    code: int
    id: int
    token: bytes = b""
    options: list[tuple[int, bytes]] = field(default_factory=list)
    payload: bytes = b""

    def encode(self):
        out = bytearray([0x40 | self.type << 4 | len(self.token), self.code])
        out += struct.pack(">H", self.id) + self.token
        before = 0
        for number, value in sorted(self.options, key=lambda option: option[0]):
            delta, delta_rest = _nibble(number - before)
            length, length_rest = _nibble(len(value))
            out += bytes([delta << 4 | length]) + delta_rest + length_rest + value
            before = number
        return bytes(out) + (bytes([PAYLOAD_MARKER]) + self.payload if self.payload else b"")

    @staticmethod
    def decode(data):
        token_end = 4 + (data[0] & 0x0F)
        message = Message(data[0] >> 4 & 3, data[1], struct.unpack(">H", data[2:4])[0], data[4:token_end])
        at, number = token_end, 0
        while at < len(data) and data[at] != PAYLOAD_MARKER:
            delta, length = data[at] >> 4, data[at] & 0x0F
            delta, at = _read_nibble(data, delta, at + 1)
            length, at = _read_nibble(data, length, at)
            number += delta
            message.options.append((number, data[at : at + length]))
            at += length
        message.payload = data[at + 1 :]
        return message


def _nibble(value):
    if value < 13:
        return value, b""
    return (13, bytes([value - 13])) if value < 269 else (14, struct.pack(">H", value - 269))


def _read_nibble(data, value, at):
    if value < 13:
        return value, at
    return (data[at] + 13, at + 1) if value == 13 else (struct.unpack(">H", data[at : at + 2])[0] + 269, at + 2)


def pack(items, dictionary):
    """A container around a CBOR sequence: as it is, or deflated where that is shorter."""
    raw = b"".join(encode_cbor(item) for item in items)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=dictionary)
    deflated = deflate.compress(raw) + deflate.flush()
    return b"\1" + deflated if len(deflated) < len(raw) else b"\0" + raw


def unpack(container, dictionary):
    raw = container[1:]
    if container[0] == 1:
        raw = zlib.decompressobj(-15, zdict=dictionary).decompress(raw)
    items, at = [], 0
    while at < len(raw):
        item, at = decode_cbor(raw, at)
        items.append(item)
    return items


def encode_cbor(value):
    if value is None or isinstance(value, bool):
        return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, float):
        short = struct.pack(">f", value)
        return b"\xfa" + short if struct.unpack(">f", short)[0] == value else b"\xfb" + struct.pack(">d", value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(encode_cbor, value))
    return _head(5, len(value)) + b"".join(encode_cbor(k) + encode_cbor(v) for k, v in value.items())


def _head(major, value):
    if value < 24:
        return bytes([major << 5 | value])
    for code, form in ((24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if value < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | code]) + struct.pack(form, value)
    raise ValueError("too large an integer")


def decode_cbor(data, at):
    major, info = data[at] >> 5, data[at] & 0x1F
    at += 1
    if major == 7:
        if info in (20, 21, 22):
            return {20: False, 21: True, 22: None}[info], at
        form = {25: ">e", 26: ">f", 27: ">d"}[info]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    value = info
    if info >= 24:
        form = {24: ">B", 25: ">H", 26: ">I", 27: ">Q"}[info]
        value = struct.unpack_from(form, data, at)[0]
        at += struct.calcsize(form)
    if major == 0:
        return value, at
    if major == 1:
        return -1 - value, at
    if major in (2, 3):
        raw = data[at : at + value]
        return (raw if major == 2 else raw.decode()), at + value
    items = []
    for _ in range(value if major == 4 else 2 * value):
        item, at = decode_cbor(data, at)
        items.append(item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2]))), at
