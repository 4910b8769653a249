"""Records, their keys and their numbers (docs/protocol.md, "Records" and "Keys of records")."""

import os
import struct
from collections import Counter
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DATA, XX1, XX2, XX3, IK1, IK2, CONTROL, HINT = range(8)
CLOSE, CONFIRM, CHALLENGE, RESPONSE, ASK = range(1, 6)
EPOCH = 1024
WINDOW = 1024
TELL_AFTER = 64
TELL_SALTED_AFTER = 4
RESERVED = 256
NO_SALT = bytes(8)
NUMBER_BYTES = (1, 2, 4, 4)
SALTED = 3
SEEN = 1


def kind_of(datagram):
    return datagram[0] >> 4 & 7


def id_at(data, at):
    """A connection id is as long as its first bits say."""
    length = 1 if data[at] < 0x80 else 2 if data[at] < 0xC0 else 4
    return data[at : at + length]


def hkdf(salt, key, info):
    return HKDF(SHA256(), 32, salt or None, info).derive(key)


def key_of(chain, sender_salt, receiver_salt):
    return hkdf(sender_salt + receiver_salt, chain, b"ravine pipe key")


def chain_at(chain, epoch, wanted):
    for _ in range(epoch, wanted):
        chain = hkdf(b"", chain, b"ravine pipe next")
    return chain


def nonce(number):
    return bytes(4) + struct.pack("<Q", number)


def expand(truncated, length, highest):
    """RFC 9000, A.3."""
    expected, size = highest + 1, 1 << 8 * length
    candidate = expected - expected % size + truncated
    if candidate <= expected - size // 2 and candidate < (1 << 62) - size:
        return candidate + size
    return candidate - size if candidate > expected + size // 2 and candidate >= size else candidate


def varint(value):
    for code, form in enumerate((">B", ">H", ">I", ">Q")):
        if value < 1 << 8 * struct.calcsize(form) - 2:
            return struct.pack(form, value | code << 8 * struct.calcsize(form) - 2)
    raise ValueError("too large a number")


def read_varint(data):
    length = 1 << (data[0] >> 6)
    return int.from_bytes(data[:length], "big") & (1 << 8 * length - 2) - 1, data[length:]


@dataclass
class Opened:
    kind: int
    plaintext: bytes
    restarted: bool = False
    newest: bool = False
    #: Genuine, but sealed for an earlier salt of this side: its payload is not to be used.
    stale: bool = False
    number: int = 0
    #: Whether the number has one byte in the record, and whether that has the resend bit.
    is_short: bool = False
    is_marked: bool = False


@dataclass
class Session:
    local: bytes
    remote: bytes
    #: chain(0) of both directions
    send_root: bytes
    receive_root: bytes
    next: int = 0
    ceiling: int = RESERVED
    arrived: int = -1
    highest: int = -1
    own_salts: list[bytes] = field(default_factory=lambda: [NO_SALT])
    peer_salt: bytes = NO_SALT
    first_salted: int | None = None
    received: set[int] = field(default_factory=set)
    untold: int = 0
    must_tell: bool = False
    #: Whether this side tells what it has seen: without that the other one's numbers become long.
    tells: bool = True
    #: Whether both sides have said that they have compact headers.
    compact: bool = False
    counts: Counter = field(default_factory=Counter)

    def restart(self):
        """Goes on as after a start of the process, with what would have been on the disk."""
        self.own_salts = [os.urandom(8), *self.own_salts][:6]
        self.first_salted = self.next = self.ceiling
        self.ceiling += RESERVED
        self.arrived = self.next - 1
        self.received.clear()

    def seal(self, kind, plaintext, is_marked=False, is_long=False):
        number, self.next = self.next, self.next + 1
        if self.next + RESERVED // 2 > self.ceiling:
            self.ceiling += RESERVED
        salt, code = b"", SALTED
        if self.first_salted is not None:
            salt = self.own_salts[0]
        else:
            code = next(i for i, reach in enumerate((128, 1 << 15, 1 << 31)) if number - self.arrived <= reach)
            code = max(code, int(is_long))
        if kind == DATA and self.must_tell and self.tells:
            self.must_tell, self.untold = False, 0
            plaintext = bytes([SEEN]) + varint(self.highest) + plaintext
        phase = number // EPOCH & 1
        header = bytes([0x80 | kind << 4 | phase << 3 | is_marked << 2 | code]) + self.remote + salt
        header += number.to_bytes(8, "big")[-NUMBER_BYTES[code] :]
        key = key_of(chain_at(self.send_root, 0, number // EPOCH), self.own_salts[0], self.peer_salt)
        self.counts[f"sent {code}"] += 1
        return header + ChaCha20Poly1305(key).encrypt(nonce(number), plaintext, header)

    def open(self, datagram):
        """What a record says; None for a forgery or a repetition, which changes nothing."""
        code, at = datagram[0] & 3, 1 + len(self.local)
        salt = self.peer_salt
        if code == SALTED:
            salt, at = datagram[at : at + 8], at + 8
        length = NUMBER_BYTES[code]
        number = expand(int.from_bytes(datagram[at : at + length], "big"), length, self.highest)
        header, sealed = datagram[: at + length], datagram[at + length :]
        is_new, is_newest = salt != self.peer_salt, number > self.highest
        if number // EPOCH & 1 != datagram[0] >> 3 & 1 or (is_new and not is_newest):
            return None
        chain = chain_at(self.receive_root, 0, number // EPOCH)
        for age, own_salt in enumerate(self.own_salts):
            try:
                plaintext = ChaCha20Poly1305(key_of(chain, salt, own_salt)).decrypt(nonce(number), sealed, header)
                break
            except InvalidTag:
                continue
        else:
            self.counts["forged"] += 1
            return None
        stale = age > 0
        if number in self.received or number <= self.highest - WINDOW or (stale and not is_newest):
            self.counts["repeated"] += 1
            return Opened(kind_of(datagram), b"", stale=True) if stale else None
        self.counts[f"received {code}"] += 1
        self.received.add(number)
        self.highest = max(self.highest, number)
        self.peer_salt = salt
        if stale:
            return Opened(kind_of(datagram), b"", restarted=is_new, stale=True)
        self.untold += 1
        if is_new or self.untold >= (TELL_SALTED_AFTER if code == SALTED else TELL_AFTER):
            self.must_tell = True
        kind = kind_of(datagram)
        if kind == DATA and plaintext[:1] == bytes([SEEN]):
            seen, plaintext = read_varint(plaintext[1:])
            self.counts["told"] += 1
            self.arrived = max(self.arrived, seen)
            if self.first_salted is not None and seen >= self.first_salted:
                self.first_salted, self.own_salts = None, self.own_salts[:1]
        is_marked = bool(datagram[0] & 4)
        return Opened(kind, plaintext, is_new, is_newest, False, number, code == 0, is_marked)
