"""XX, IK and XXfallback (docs/protocol.md, "Handshake"); Noise itself is dissononce's."""

import copy
import hashlib
import os
import time
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dissononce.cipher.chachapoly import ChaChaPolyCipher
from dissononce.dh.keypair import KeyPair
from dissononce.dh.x25519.public import PublicKey
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.hash.sha256 import SHA256Hash
from dissononce.processing.handshakepatterns.interactive.IK import IKHandshakePattern
from dissononce.processing.handshakepatterns.interactive.XX import XXHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState
from dissononce.processing.impl.handshakestate import HandshakeState
from dissononce.processing.impl.symmetricstate import SymmetricState
from dissononce.processing.modifiers.fallback import FallbackPatternModifier
from session import IK1, IK2, XX1, XX2, XX3, Session, id_at, kind_of

VERSION = 0x11
#: Features: negotiates; compact headers.
TELLS, COMPACT = 2, 4
COOKIE = 1
#: In a serial, of XX2: the name is the one that was called.
NO_NAME = 1 << 47
DH = X25519DH()
PATTERNS = {
    "XX": XXHandshakePattern(),
    "IK": IKHandshakePattern(),
    "XXfallback": FallbackPatternModifier().modify(XXHandshakePattern()),
}


@dataclass(frozen=True)
class Identity:
    """What somebody says about himself, with the static Noise key that the handshake has proved."""

    name: str
    key_version: str
    signing_key: bytes
    static: bytes
    serial: int

    def signed(self):
        key_id = f"ed25519:{self.key_version}"
        parts = [b"ravine pipe identity 1\0", _text(self.name), _text(key_id), self.static, self.serial.to_bytes(6, "big")]
        return b"".join(parts)

    def digest(self):
        return hashlib.sha256(self.signed() + self.signing_key).digest()


class Self:
    """This side: its keys, and the salt and boot id of its start."""

    def __init__(self, name, serial=1, features=0):
        #: What this side says of itself in XX; nothing where it is 0.
        self.features = features
        self.static: KeyPair = DH.generate_keypair()
        self.signing = Ed25519PrivateKey.generate()
        public = self.signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.identity = Identity(name, "py", public, self.static.public.data, serial)
        self.boot_id = os.urandom(8)

    def says(self, name=None, mark=0):
        """:param name: as it is said; :param mark: in the serial, where no name is"""
        me = self.identity
        name = _text(me.name) if name is None else name
        binding = self.signing.sign(me.signed())
        serial = (me.serial | mark).to_bytes(6, "big")
        return self.boot_id + serial + me.signing_key + binding + _text(me.key_version) + name


def _text(text):
    return bytes([len(text)]) + text.encode()


def _read_identity(payload, static, called=None, is_last=False):
    """
    The identity in the payload of XX2 or XX3, and the flags behind it. Raises where it is not bound to the key.

    :param called: the name that XX2 may leave out; :param is_last: whether the name ends an XX3
    """
    boot_id, serial, signing_key, binding = payload[:8], payload[8:14], payload[14:46], payload[46:110]
    version_end = 111 + payload[110]
    serial, version = int.from_bytes(serial, "big"), payload[111:version_end].decode()
    name_end = version_end
    if called is not None and serial & NO_NAME:
        name = called
    elif is_last:
        name_end = len(payload)
        name = payload[version_end:].split(b"\0")[0].decode()
    else:
        name_end = version_end + 1 + payload[version_end]
        name = payload[version_end + 1 : name_end].decode()
    identity = Identity(name, version, signing_key, static, serial & ~NO_NAME)
    Ed25519PublicKey.from_public_bytes(signing_key).verify(binding, identity.signed())
    return identity, boot_id, payload[name_end:]


def _noise(pattern, initiator, header, me, digest=b"", **keys):
    state = HandshakeState(SymmetricState(CipherState(ChaChaPolyCipher()), SHA256Hash()), DH)
    state.initialize(PATTERNS[pattern], initiator, b"ravine pipe 1" + header + b"\0" + digest, s=me.static, **keys)
    return state


def _write(state, payload):
    out = bytearray()
    split = state.write_message(payload, out)
    return bytes(out), split


def _read(state, message):
    """On a copy: a forgery leaves the state as it was. Raises where the message is one."""
    state, payload = copy.deepcopy(state), bytearray()
    split = state.read_message(message, payload)
    return state, bytes(payload), split


def _padding(length, name):
    """How much brings a first message of that length to a third of the longest XX2."""
    return bytes(max(0, -(-(250 + len(name)) // 3) - length))


class Initiator:
    def __init__(self, me, name, local, known=None, generation=0, version=VERSION, refused=b""):
        self.me, self.name, self.local, self.known, self.generation = me, name, local, known, generation
        self.version = version
        kind = XX1 if known is None else IK1
        self.header = bytes([0x80 | kind << 4 | len(refused) << 1, version]) + refused + local
        if known is None:
            self.state = _noise("XX", True, self.header, me)
            payload = bytes([me.features]) + generation.to_bytes(6, "big") if me.features else b""
            bare = len(self.header) + 32 + len(payload)
        else:
            self.state = _noise("IK", True, self.header, me, known.digest(), rs=PublicKey(known.static))
            payload = generation.to_bytes(6, "big") + me.identity.digest()[:6] + me.boot_id
            bare = len(self.header) + 32 + 48 + len(payload) + 16
        # dissononce makes the ephemeral key itself; XXfallback needs it again.
        self.message, _ = _write(self.state, payload + _padding(bare, name))
        self.ephemeral = self.state.e

    def first(self, cookie=b""):
        header = bytes([self.header[0] | COOKIE]) + self.header[1:] if cookie else self.header
        return header + cookie + self.message

    def read(self, datagram):
        """A session, the peer's identity and boot id, and the XX3, from an XX2 or IK2. Raises where it is forged."""
        message = datagram[1 + len(self.local) :]
        if kind_of(datagram) == IK2:
            _, payload, split = _read(self.state, message)
            remote = id_at(payload, 0)
            return self._session(remote, split), self.known, payload[len(remote) :][:8], None
        state = self.state
        if self.known is not None:
            digest = hashlib.sha256(self.first()).digest()
            state = _noise("XXfallback", True, self.header, self.me, digest, e=self.ephemeral)
        state, payload, _ = _read(state, message)
        remote = id_at(payload, 0)
        identity, boot_id, said = _read_identity(payload[len(remote) :], state.rs.data, self.name)
        # It has read what XX1 has told where it tells of itself.
        negotiated = self.known is None and self.me.features and said and said[0] & TELLS
        if identity.name != self.name:
            raise ValueError("another server has answered")
        generation = self.generation.to_bytes(6, "big")
        third, split = _write(state, self.me.says(self.me.identity.name.encode()) if negotiated else generation + self.me.says())
        session = self._session(remote, split)
        session.compact = bool(negotiated and said[0] & self.me.features & COMPACT)
        return session, identity, boot_id, bytes([0x80 | XX3 << 4]) + remote + third

    def _session(self, remote, split):
        send, receive = (state._key for state in split)
        return Session(self.local, remote, send, receive)


class Responder:
    """Answers one first message."""

    def __init__(self, me, local, datagram, peers):
        """:param peers: identities by static key"""
        self.me, self.local, self.session, self.proposal = me, local, None, b""
        count = datagram[0] >> 1 & 3
        self.remote = id_at(datagram, 2 + count)
        end = 2 + count + len(self.remote)
        self.header = bytes([datagram[0] & ~COOKIE]) + datagram[1:end]
        self.message = datagram[end + (8 if datagram[0] & COOKIE else 0) :]
        self.first = self.header + self.message
        self.accepted = kind_of(datagram) == IK1 and self._accept(peers)
        if self.accepted:
            return
        if kind_of(datagram) == IK1:
            digest = hashlib.sha256(self.first).digest()
            self.state = _noise("XXfallback", False, self.header, me, digest, re=PublicKey(self.message[:32]))
        else:
            self.state, proposal, _ = _read(_noise("XX", False, self.header, me), self.message)
            if me.features and proposal[:1] and proposal[0] & TELLS:
                self.proposal = proposal
        said = bytes([me.features]) if self.proposal else b""
        names = me.says(b"", NO_NAME) if self.proposal else me.says()
        answer, _ = _write(self.state, local + names + said)
        self.second = bytes([0x80 | XX2 << 4]) + self.remote + answer

    def _accept(self, peers):
        try:
            state, payload, _ = _read(_noise("IK", False, self.header, self.me, self.me.identity.digest()), self.message)
        except Exception:
            return False
        self.identity = peers.get(state.rs.data)
        self.generation, check, self.boot_id = int.from_bytes(payload[:6], "big"), payload[6:12], payload[12:20]
        if self.identity is None or check != self.identity.digest()[:6]:
            return False
        answer, split = _write(state, self.local + self.me.boot_id)
        self.second = bytes([0x80 | IK2 << 4]) + self.remote + answer
        self.session = self._session(split)
        return True

    def finish(self, third):
        """Reads XX3. Raises where it is forged."""
        state, payload, split = _read(self.state, third[1 + len(self.local) :])
        if self.proposal:
            payload = self.proposal[1:7] + payload
        self.identity, self.boot_id, _ = _read_identity(payload[6:], state.rs.data, is_last=bool(self.proposal))
        self.generation = int.from_bytes(payload[:6], "big")
        self.session = self._session(split)
        self.session.compact = bool(self.proposal and self.proposal[0] & self.me.features & COMPACT)

    def _session(self, split):
        receive, send = (state._key for state in split)
        return Session(self.local, self.remote, send, receive)


def next_generation(floor):
    return max(int(time.time() * 1000), floor + 1)
