"""
A second implementation of docs/protocol.md, which shares no code with the first one, to talk to it.

Takes orders as lines of JSON on its standard input, answers each with one line that has the order's id, and ends when its
input does. Usage: peer.py <server name> <file with dictionary 1>
"""

import asyncio
import hashlib
import json
import os
import sys
from collections import Counter

import headers
from content import ACK, CON, METHODS, RST, Message, pack, unpack
from handshake import COMPACT, TELLS, VERSION, Initiator, Responder, Self, next_generation
from session import ASK, CHALLENGE, CLOSE, CONFIRM, CONTROL, DATA, HINT, IK1, IK2, RESPONSE, XX1, XX2, XX3
from session import NUMBER_BYTES, SALTED, id_at, kind_of

DICTIONARY_SHA256 = "892e20ae4bcbd677c78fd1c40477bb5de8b26504e25e52509214c46658edeb35"
CHALLENGE_BYTES = 8
HANDSHAKE_S = 1.0
ACK_TIMEOUT_S = 2.0
#: For one order.
PATIENCE_S = 60.0
COOKIE, VERSIONS = 0xF8, 0xF9
CONTENT = 0x45
STATUS = {200: CONTENT, 403: 0x83, 404: 0x84}


def hint_about(record):
    """That nobody here knows the connection of that record."""
    code, one = record[0] & 3, id_at(record, 1)
    at = 1 + len(one) + (8 if code == SALTED else 0)
    return bytes([0xF0 | min(code, 2)]) + one + record[at : at + NUMBER_BYTES[code]]


class Peer(asyncio.DatagramProtocol):
    """Talks to one server at a time, on its newest session."""

    def __init__(self, name, dictionary):
        self.me, self.dictionary = Self(name), dictionary
        #: By connection id: an Initiator, a Responder or a Session
        self.owners = {}
        self.responders, self.identities = {}, {}
        self.session = self.address = self.boot_id = self.third = self.confirmed = None
        self.generation = 0
        self.opening, self.cookie = None, b""
        self.open_requests, self.answered, self.handled = {}, {}, []
        self.answer = (200, {})
        #: Numbers of messages that have got a short reply.
        self.short_replies = set()
        self.message_id = int.from_bytes(os.urandom(2), "big")
        self.counts, self.last_sent, self.closed = Counter(), b"", None

    def connection_made(self, transport):
        self.transport = transport

    def send(self, datagram, address=None):
        self.counts[f"sent kind {kind_of(datagram)}"] += 1
        self.transport.sendto(datagram, address or self.address)

    def new_id(self):
        return next(one for one in iter(lambda: bytes([os.urandom(1)[0] & 0x7F]), None) if one not in self.owners)

    # What arrives

    def datagram_received(self, datagram, address):
        if not datagram or datagram[0] < 0x80:
            return
        kind = kind_of(datagram)
        self.counts[f"received kind {kind}"] += 1
        try:
            if kind in (XX1, IK1):
                self.on_first(datagram, address)
            elif kind == HINT:
                self.on_hint(datagram)
            else:
                self.on_later(kind, datagram, address)
        except Exception as error:  # A forgery is dropped, whatever it makes a reader stumble over.
            self.counts["dropped"] += 1
            self.counts[f"dropped: {type(error).__name__}"] += 1

    def on_first(self, datagram, address):
        fresh = Responder(self.me, self.new_id(), datagram, self.identities)
        responder = self.responders.setdefault(hashlib.sha256(fresh.first).digest(), fresh)
        if responder is fresh:
            if responder.accepted and responder.generation <= self.generation:
                return
            if responder.accepted:
                self.generation = responder.generation
            self.owners[responder.local] = responder
        self.send(responder.second, address)

    def on_hint(self, datagram):
        owner = self.owners.get(id_at(datagram, 1))
        if datagram[0] == COOKIE and isinstance(owner, Initiator):
            self.counts["cookies"] += 1
            self.cookie = datagram[1 + len(owner.local) :][:8]
            self.send(owner.first(self.cookie))
        elif datagram[0] == VERSIONS and isinstance(owner, Initiator):
            self.counts["versions"] += 1
            if owner.version != VERSION and VERSION in datagram[1 + len(owner.local) :]:
                refused = bytes([owner.version])
                self.opening = Initiator(self.me, owner.name, owner.local, None, owner.generation, VERSION, refused)
                self.owners[owner.local] = self.opening
                self.send(self.opening.first())

    def on_later(self, kind, datagram, address):
        owner = self.owners.get(id_at(datagram, 1))
        if owner is None:
            self.counts["unknown id"] += 1
            if kind in (DATA, CONTROL):
                self.send(hint_about(datagram), address)
        elif kind in (XX2, IK2):
            if isinstance(owner, Initiator):
                self.on_second(owner, datagram)
            elif kind == XX2 and self.third is not None and not self.confirmed.done():
                self.send(self.third)
        elif kind == XX3:
            if isinstance(owner, Responder) and owner.session is None:
                owner.finish(datagram)
                self.begin(owner.session, owner.identity, owner.boot_id, owner.generation, address)
            elif owner is self.session:
                self.control(bytes([CONFIRM]))
        else:
            self.on_record(owner, datagram, address)

    def on_second(self, initiator, datagram):
        session, identity, boot_id, third = initiator.read(datagram)
        self.opening, self.third = None, third
        if third is not None:
            self.send(third)
        self.begin(session, identity, boot_id, initiator.generation, self.address)
        if third is None:
            self.control(bytes([ASK]))

    def begin(self, session, identity, boot_id, generation, address):
        self.owners[session.local] = self.session = session
        self.identities[identity.static] = identity
        self.address, self.closed = address, None
        self.generation = max(self.generation, generation)
        self.peer = identity
        if self.boot_id not in (None, boot_id):
            self.restarted(boot_id)
        self.boot_id = boot_id

    def on_record(self, owner, datagram, address):
        session = owner if not isinstance(owner, Responder) else owner.session
        opened = session.open(datagram)
        if opened is None:
            self.counts["dropped"] += 1
            return
        if isinstance(owner, Responder):
            # The first record behind an IK2 shows that the IK1 was no repetition.
            self.begin(session, owner.identity, owner.boot_id, owner.generation, address)
        if opened.restarted:
            self.restarted(session.peer_salt)
        if opened.stale:
            self.control(bytes([CONFIRM]))
            return
        if opened.newest:
            self.address = address
        if self.confirmed is not None and not self.confirmed.done():
            self.confirmed.set_result(None)
        if opened.kind == CONTROL:
            self.on_control(opened.plaintext)
        elif session.compact:
            for place, message in enumerate(headers.parted(opened.plaintext)):
                self.on_compact(message, opened, opened.number + place)
        else:
            self.on_message(Message.decode(opened.plaintext))

    def on_control(self, plaintext):
        code = plaintext[0] if plaintext else 0
        self.counts[f"control {code}"] += 1
        if code == CLOSE:
            self.closed = plaintext[1:].decode("ascii")
            self.session = None
        elif code == CHALLENGE:
            self.control(bytes([RESPONSE]) + plaintext[1 : 1 + CHALLENGE_BYTES])
        elif code == ASK:
            self.control(bytes([CONFIRM]))

    def restarted(self, boot_id):
        """What the peer had in memory is lost: what is open is asked again, as new messages."""
        self.boot_id = boot_id
        self.counts["restarts of the peer"] += 1
        self.answered.clear()
        self.short_replies.clear()
        for request in list(self.open_requests.values()):
            request["acknowledged"] = False
            self.send_request(request, is_new=True)

    # CoAP

    def on_message(self, message):
        if message.code == 0:
            if message.type == CON:
                self.data(Message(RST, 0, message.id))
            for request in self.open_requests.values():
                if message.type == ACK and request["message"].id == message.id:
                    request["acknowledged"] = True
        elif message.code < 32:
            self.on_request(message)
        else:
            if message.type == CON:
                self.data(Message(ACK, 0, message.id))
            request = self.open_requests.pop(message.token, None)
            if request is not None:
                request["done"].set_result(message)

    def on_compact(self, data, record, number):
        if not data:
            return
        header = headers.read(data, number, record.is_marked)
        self.counts["compact headers"] += 1
        self.counts[f"compact {data[0] & 0xF0:02x}"] += 1
        # Behind a header of RFC 7252 that says nothing, options and payload are read as ever.
        message = Message.decode(bytes([0x40, header.code, 0, 0]) + header.rest)
        if header.type == CON and header.code == 0:
            self.reply_compact(RST, 0, record, number)
        elif header.code and header.code < 32:
            if header.first not in self.answered:
                self.answered[header.first] = self.answer_to(message)
            answer = self.answered[header.first]
            self.reply_compact(ACK, answer.code, record, number, answer.encode()[4:])
        else:
            self.on_compact_answer(header, message, record, number)

    def on_compact_answer(self, header, message, record, number):
        if header.type == CON:
            self.reply_compact(ACK, 0, record, number)
        for key, request in list(self.open_requests.items()):
            copies = request["copies"]
            if header.owner is not None:
                matches = header.owner == copies[0]
            else:
                matches = any(copy == header.answers or copy & 15 == header.ending for copy in copies)
            if matches and header.code == 0:
                request["acknowledged"] = True
            elif matches:
                del self.open_requests[key]
                request["done"].set_result(message)

    def reply_compact(self, type, code, record, number, rest=b""):
        # One short reply to each copy at most: what answers it once more names the whole number.
        is_short = record.is_short and number not in self.short_replies
        self.short_replies.add(number)
        self.last_sent = self.session.seal(DATA, headers.reply(type, code, number, is_short, rest))
        self.send(self.last_sent)

    def on_request(self, message):
        if message.id not in self.answered:
            self.answered[message.id] = self.answer_to(message)
        self.data(self.answered[message.id])

    def answer_to(self, message):
        items = unpack(message.payload, self.dictionary)
        self.handled.append({"code": message.code, "target": items[0], "body": items[1] if len(items) > 1 else None})
        status, body = self.answer
        payload = pack([body], self.dictionary)
        code = STATUS[status] if message.code == 1 or status != 200 else 0x44
        return Message(ACK, code, message.id, message.token, [], payload)

    def data(self, message):
        self.last_sent = self.session.seal(DATA, message.encode())
        self.send(self.last_sent)

    def control(self, plaintext):
        self.send(self.session.seal(CONTROL, plaintext))

    def send_request(self, request, is_new=False):
        if is_new:
            self.message_id = (self.message_id + 1) % 65536
            request["message"].id = self.message_id
            request["copies"] = []
        if self.session.compact:
            self.send_compact(request)
        else:
            self.data(request["message"])

    def send_compact(self, request):
        message, copies, number = request["message"], request["copies"], self.session.next
        distance = number - copies[0] if copies else 0
        plaintext = headers.request(message.code, message.encode()[4 + len(message.token) :], distance)
        endings = {copy & 15 for other in self.open_requests.values() for copy in other["copies"]}
        is_long = number & 15 in endings
        copies.append(number)
        self.last_sent = self.session.seal(DATA, plaintext, is_marked=distance > 0, is_long=is_long)
        self.send(self.last_sent)

    # Orders

    async def open(self, order):
        """Handshakes with the server `name` at `port`: IK where `known`, else XX."""
        self.address = ("127.0.0.1", order["port"])
        known = self.peer if order.get("known") else None
        if known is not None and order.get("wrong identity"):
            known = type(known)(known.name, known.key_version, known.signing_key, known.static, known.serial + 1)
        self.generation = next_generation(self.generation)
        local = self.new_id()
        version = order.get("version", VERSION)
        self.opening = self.owners[local] = Initiator(self.me, order["name"], local, known, self.generation, version)
        self.cookie = b""
        self.confirmed = asyncio.get_running_loop().create_future()
        while not self.confirmed.done():
            if self.opening is not None:
                self.send(self.opening.first(self.cookie))
            elif self.closed is not None:
                break
            elif self.third is not None:
                self.send(self.third)
                self.control(b"")
            else:
                self.control(bytes([ASK]))
            await asyncio.wait([self.confirmed], timeout=HANDSHAKE_S)
        return {"closed": self.closed, "fallback": known is not None and self.third is not None}

    async def request(self, order):
        items = [order["target"]] + ([order["body"]] if "body" in order else [])
        answer = None
        for _ in range(order.get("times", 1)):
            token = os.urandom(2)
            message = Message(CON, METHODS[order["method"]], 0, token, [], pack(items, self.dictionary))
            done = asyncio.get_running_loop().create_future()
            request = {"message": message, "done": done, "acknowledged": False, "copies": []}
            self.open_requests[token] = request
            self.send_request(request, is_new=True)
            while not done.done():
                await asyncio.wait([done], timeout=ACK_TIMEOUT_S)
                if not done.done() and not request["acknowledged"]:
                    self.send_request(request)
            answer = done.result()
        body = unpack(answer.payload, self.dictionary)[0] if answer.payload else None
        return {"code": f"{answer.code >> 5}.{answer.code & 31:02}", "body": body}

    async def forge(self, order):
        """Sends what looks like records of the session: every byte of a genuine one changed, the one itself again."""
        for at in range(1 + len(self.session.remote), len(self.last_sent)):
            changed = bytearray(self.last_sent)
            changed[at] ^= 1 << order["bit"]
            self.send(bytes(changed))
        self.send(self.last_sent)
        return {"sent": len(self.last_sent) - 1}

    async def flood(self, order):
        """Sends first messages of handshakes that nobody goes on with."""
        for _ in range(order["times"]):
            self.send(Initiator(self.me, order["name"], b"\x7f").first(), ("127.0.0.1", order["port"]))
        return {}

    async def restart(self, order):
        """As if the process had started again with its sessions on the disk."""
        self.me.boot_id = os.urandom(8)
        self.session.restart()
        self.me.boot_id = self.session.own_salts[0]
        return {}

    async def forget(self, order):
        """As if it had started again without them; `keys`: with other static and ephemeral keys as well."""
        self.owners.clear()
        self.responders.clear()
        self.session = None
        self.me.boot_id = os.urandom(8)
        if order.get("peers"):
            self.identities.clear()
        return {}

    async def close(self, order):
        self.control(bytes([CLOSE]) + order["reason"].encode())
        return {}

    async def configure(self, order):
        if "answer" in order:
            self.answer = tuple(order["answer"])
        if "compact" in order:
            self.me.features = TELLS | COMPACT if order["compact"] else 0
        if "tells" in order:
            self.session.tells = order["tells"]
        return {}

    async def state(self, order):
        session = self.session
        return {
            "counts": dict(self.counts),
            "records": dict(session.counts) if session else {},
            "next": session.next if session else None,
            "highest": session.highest if session else None,
            "salted": session is not None and session.first_salted is not None,
            "handled": self.handled,
            "closed": self.closed,
        }


async def main():
    with open(sys.argv[2], "rb") as file:
        dictionary = file.read()
    if hashlib.sha256(dictionary).hexdigest() != DICTIONARY_SHA256:
        raise SystemExit("the dictionary is not the document's")
    loop = asyncio.get_running_loop()
    peer = Peer(sys.argv[1], dictionary)
    transport, _ = await loop.create_datagram_endpoint(lambda: peer, local_addr=("127.0.0.1", 0))
    tell({"port": transport.get_extra_info("sockname")[1]})
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running = set()
    while line := await lines.readline():
        task = asyncio.create_task(obey(peer, json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


async def obey(peer, order):
    try:
        said = await asyncio.wait_for(getattr(peer, order["do"])(order), PATIENCE_S)
    except Exception as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    tell({"id": order["id"], **said})


def tell(line):
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
