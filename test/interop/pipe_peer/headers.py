"""Compact headers of messages in records (docs/protocol.md, "Message ids" and "Compact headers")."""

from dataclasses import dataclass

from content import ACK, CON, NON, PAYLOAD_MARKER, RST
from session import read_varint, varint

FULL, PING, ACK_BYTE, RST_BYTE, SEVERAL = 0x00, 0x02, 0x03, 0x04, 0x05
RESPONSE, REQUEST, OPTIONS, SHORT = 0x08, 0x10, 0x40, 0x80
CONTENT, CONTINUE = 0x45, 0x5F
#: Type, code, whether options follow: empty ACK, RST, ACK with 2.05 and 2.31 and options, with 2.04, 2.05, 2.31 and 4.04.
SHORT_REPLIES = [
    (ACK, 0, False),
    (RST, 0, False),
    (ACK, CONTENT, True),
    (ACK, CONTINUE, True),
    (ACK, 0x44, False),
    (ACK, CONTENT, False),
    (ACK, CONTINUE, False),
    (ACK, 0x84, False),
]


@dataclass
class Header:
    type: int
    code: int
    #: The number of the first copy, of a CON or NON.
    first: int | None = None
    #: Of a reply: the number of what it answers, or the last four bits of it.
    answers: int | None = None
    ending: int | None = None
    #: Of a separate response: the number of the request. Of a request: the one that it is part of, or that names it.
    owner: int | None = None
    #: Options, payload marker and payload, as in RFC 7252.
    rest: bytes = b""


def parted(payload):
    """The messages of a record, one after another: each has the next number."""
    messages = []
    while payload[:1] == bytes([SEVERAL]):
        length, rest = read_varint(payload[1:])
        messages.append(rest[:length])
        payload = rest[length:]
    return messages + [payload]


def read(message, number, is_marked):
    header, has_options = _read(message[0], message[1:], number, is_marked)
    starts_with_option = header.rest[:1] not in (b"", bytes([PAYLOAD_MARKER]))
    if has_options and not starts_with_option:
        raise ValueError("there are no options")
    if not has_options and header.rest:
        header.rest = bytes([PAYLOAD_MARKER]) + header.rest
    return header


def _read(first, rest, number, is_marked):
    if first >= SHORT:
        type, code, has_options = SHORT_REPLIES[first - SHORT >> 4]
        return Header(type, code, ending=first & 15, rest=rest), has_options
    if first == FULL:
        return _read_full(rest), bool(rest[0] & 1)
    has_options, form = bool(first & OPTIONS), first & ~OPTIONS
    if has_options and form != ACK_BYTE and form < RESPONSE:
        raise ValueError("not a message")
    return _read_short(form, rest, number, is_marked), has_options


def _read_short(first, rest, number, is_marked):
    if first in (ACK_BYTE, RST_BYTE):
        code, rest = (rest[0], rest[1:]) if first == ACK_BYTE else (0, rest)
        answers, rest = read_varint(rest)
        return Header(ACK if first == ACK_BYTE else RST, code, answers=answers, rest=rest)
    if first == PING or first >= RESPONSE:
        distance = 0
        if is_marked:
            distance, rest = read_varint(rest)
        if first == PING:
            return Header(CON, 0, number - distance, rest=rest)
        if first < REQUEST:
            return _read_response(first, number - distance, rest)
        owner = None
        if first >= 0x20:
            back, rest = read_varint(rest)
            owner = number - back
        return Header(NON if first & 8 else CON, first & 7, number - distance, owner=owner, rest=rest)
    raise ValueError("not a message")


def _read_response(first, number, rest):
    code = CONTENT
    if first & 1:
        code, rest = rest[0], rest[1:]
    if first & 2:
        raise ValueError("nothing was observed")
    owner, rest = read_varint(rest)
    return Header(NON if first & 4 else CON, code, number, owner=owner, rest=rest)


def _read_full(rest):
    """Only what is about the record's own session; of other ones nothing is remembered here."""
    flags, code, rest = rest[0], rest[1], rest[2:]
    header = Header(flags >> 6, code)
    if flags & 0x20:
        copy, rest = _reference(rest)
        if header.type in (ACK, RST):
            header.answers = copy
        else:
            header.first = copy
    token = flags >> 2 & 7
    if token == 1:
        length, rest = read_varint(rest)
        rest = rest[length:]
    for _ in range({2: 1, 3: 1, 4: 2}.get(token, 0)):
        header.owner, rest = _reference(rest)
    header.rest = rest
    return header


def _reference(rest):
    session, rest = read_varint(rest)
    number, rest = read_varint(rest)
    return (number if session == 0 else None), rest


def request(method, rest, distance=0):
    """A CON; `distance` of a further copy, which goes in a record with the resend bit."""
    has_options, rest = _parted(rest)
    first = REQUEST | method | (OPTIONS if has_options else 0)
    return bytes([first]) + (varint(distance) if distance else b"") + rest


def reply(type, code, number, is_short, rest=b""):
    """What answers the message with that number; `is_short`: the number had one byte in its record."""
    has_options, rest = _parted(rest)
    kind = (type, code, has_options)
    if is_short and kind in SHORT_REPLIES:
        return bytes([SHORT | SHORT_REPLIES.index(kind) << 4 | number & 15]) + rest
    head = bytes([ACK_BYTE | (OPTIONS if has_options else 0), code]) if type == ACK else bytes([RST_BYTE])
    return head + varint(number) + rest


def _parted(rest):
    """Whether there are options, and what goes on the wire: without options there is no marker."""
    if rest[:1] == bytes([PAYLOAD_MARKER]):
        return False, rest[1:]
    return bool(rest), rest
