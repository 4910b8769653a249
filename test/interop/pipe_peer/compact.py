"""The compact form of requests and answers, read from docs/protocol.md alone: its tables are taken from its text."""

import base64
import hashlib
import re
import struct
import zlib
from urllib.parse import quote

MOST_DEPTH = 256
MOST_TEXT_DEPTH = 5
MOST_AGAIN = 1 << 14
MOST_AGAIN_UNITS = 512
MOST_SERVERS = 1 << 10
MOST_UNITS = 1 << 24
MOST_BYTES = 8 << 20
FREE_BYTES = 64 << 10
MOST_RATIO = 200
SAFE = (1 << 53) - 1
MOST_SLOTS = 512
MOST_HANDLE_UNITS = 255
HANDLE_KINDS = ["room", "user", "event", "server", "device"]
# What encodeURIComponent leaves as it is.
UNRESERVED = "-_.!~*'()"
KINDS = {
    "roomId": "room",
    "roomIdOrAlias": "room",
    "userId": "user",
    "eventId": "event",
    "deviceId": "device",
    "serverName": "server",
    "txnId": "transaction",
    "version": "digits",
    "filterId": "digits",
}
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


class Malformed(Exception):
    pass


class Tables:
    """The lists of "Tables of the compact form"."""

    def __init__(self, document):
        text = document.split("## Tables of the compact form\n")[1].split("\n## ")[0]
        lists = {}
        for title, body in re.findall(r"\n([^\n]+):\n\n```\n(.*?)\n```", text, re.S):
            lists[title.lower()] = body.split()
        find = lambda begin: next(words for title, words in lists.items() if title.startswith(begin))
        self.keys = {}
        for i, word in enumerate(find("0, -1, -2")):
            self.keys[-i] = word
        for i, word in enumerate(find("1 and so on")):
            self.keys[i + 1] = word
        self.texts = dict(enumerate(find("simple values 0 to 19")))
        self.texts.update((32 + i, word) for i, word in enumerate(find("simple values 32")))
        self.prefixes = find("prefixes")
        self.versions = find("versions")
        self.query_keys = []
        for word in find("keys of queries"):
            key, kind = re.fullmatch(r"([^(]+)(?:\((\w+)\))?", word).groups()
            self.query_keys.append((key, kind or "text"))
        self.routes = []
        routes = text.split("### Routes\n")[1].split("```\n")[1]
        for line in routes.splitlines():
            if not line.startswith(" "):
                base = line
                continue
            *methods, path = line.split()
            self.routes += [(method, (base + path).split("/")) for method in methods]
        worked = lambda heading: re.findall(r"^\| `(.+)` \| `([0-9a-f]+)` \|$", text.split(heading)[1].split("### ")[0], re.M)
        self.examples = worked("### Examples of values and targets") + worked("### Examples of containers")
        self.named_examples = worked("### Examples with names")


class Reader:
    def __init__(self, tables, content, blobs=None, servers=(), handles=None):
        """:param servers: who asks and who answers, where they are servers; handles: texts by kind and slot"""
        self.tables = tables
        self.handles = {} if handles is None else handles
        self.data = content
        self.at = 0
        self.blobs = blobs
        self.blobs_at = 0
        self.time = 0
        self.again = []
        self.servers = list(dict.fromkeys(servers))
        self.units = 0

    def end(self):
        return self.at == len(self.data) and self.blobs_at == len(self.blobs or b"")

    def take(self, length):
        if length > len(self.data) - self.at:
            raise Malformed("it ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def byte(self):
        return self.take(1)[0]

    def peek(self):
        if self.at >= len(self.data):
            raise Malformed("it ends too early")
        return self.data[self.at]

    def varint(self):
        value, shift = 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if value > SAFE:
                raise Malformed("too large a number")
            if byte < 0x80:
                return value
            shift += 7
            if shift > 56:
                raise Malformed("too long a number")

    def signed(self):
        value = self.varint()
        return value >> 1 if value % 2 == 0 else -(value >> 1) - 1

    def blob(self, length):
        if self.blobs is None:
            return self.take(length)
        if length > len(self.blobs) - self.blobs_at:
            raise Malformed("too few blobs")
        self.blobs_at += length
        return self.blobs[self.blobs_at - length : self.blobs_at]

    def rest(self):
        """All bytes that are left, of which there has to be one."""
        whole, at = (self.data, self.at) if self.blobs is None else (self.blobs, self.blobs_at)
        if at == len(whole):
            raise Malformed("it ends too early")
        return self.blob(len(whole) - at)

    def argument(self):
        info = self.byte() & 31
        if info < 24:
            return info
        if info > 27:
            raise Malformed("an indefinite length")
        value = int.from_bytes(self.take(1 << info - 24), "big")
        if value > SAFE:
            raise Malformed("too large a number")
        return value

    def negative(self):
        value = -1 - self.argument()
        if value < -SAFE:
            raise Malformed("too large a number")
        return value

    def value(self, depth=0):
        head = self.peek()
        major = head >> 5
        if major == 0:
            return self.argument()
        if major == 1:
            return self.negative()
        if major in (4, 5) and depth == MOST_DEPTH:
            raise Malformed("too deep")
        if major == 4:
            return [self.value(depth + 1) for _ in range(self.count())]
        if major == 5:
            return self.map(depth)
        if 0xF4 <= head <= 0xF6:
            return {0xF4: False, 0xF5: True, 0xF6: None}[self.byte()]
        if 0xF9 <= head <= 0xFB:
            form = {0xF9: ">e", 0xFA: ">f", 0xFB: ">d"}[self.byte()]
            value = struct.unpack(form, self.take(struct.calcsize(form)))[0]
            if value != value or value in (float("inf"), float("-inf")):
                raise Malformed("not a finite number")
            return value
        if head == 0xCA:
            self.byte()
            self.time += self.signed()
            if abs(self.time) > SAFE:
                raise Malformed("too large a number")
            return self.time
        if head == 0xD7:
            if depth == MOST_DEPTH:
                raise Malformed("too deep")
            self.byte()
            return {"msgtype": "m.text", "body": self.text()}
        if head == 0xD5:
            if depth == MOST_DEPTH:
                raise Malformed("too deep")
            self.byte()
            length = self.varint()
            before = self.blob(length) if length else None
            session = self.parameter("device")
            ciphertext = unpadded(self.rest() if before is None else before)
            return {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": ciphertext, "session_id": session}
        return self.text()

    def count(self):
        count = self.argument()
        # Each item has a byte at least.
        if count > len(self.data) - self.at:
            raise Malformed("it ends too early")
        return count

    def map(self, depth):
        found = {}
        for _ in range(self.count()):
            major = self.peek() >> 5
            if major < 2:
                key = self.tables.keys.get(self.argument() if major == 0 else self.negative())
                if key is None:
                    raise Malformed("an unknown key")
            else:
                key = self.text()
            if key in found:
                raise Malformed("a key twice")
            found[key] = self.value(depth + 1)
        return found

    def text(self, depth=0):
        """A text in any form."""
        if depth >= MOST_TEXT_DEPTH:
            raise Malformed("too deep")
        head = self.peek()
        major = head >> 5
        if major == 2:
            return unpadded(self.blob(self.argument()))
        if major == 3:
            return self.take(self.argument()).decode("utf-8")
        if 0xE0 <= head <= 0xF3:
            return self.tables.texts[self.byte() - 0xE0]
        if head == 0xF8:
            number = self.data[self.at + 1] if self.at + 1 < len(self.data) else 0
            if number < 32 or number not in self.tables.texts:
                raise Malformed("an unknown text")
            self.take(2)
            return self.tables.texts[number]
        if 0xC0 <= head <= 0xD6:
            self.byte()
            text = self.form(head, depth)
            if (head <= 0xC6 or head == 0xC9) and len(self.again) < MOST_AGAIN and units(text) <= MOST_AGAIN_UNITS:
                self.again.append(text)
            return text
        raise Malformed("no text")

    def form(self, head, depth):
        if head <= 0xC3:
            local = self.text(depth + 1)
            return "@!#$"[head - 0xC0] + local + ":" + self.server(depth + 1)
        if head in (0xC4, 0xC5):
            return "$!"[head - 0xC4] + url_safe(self.blob(32))
        if head == 0xC6:
            return unpadded(self.blob(32))
        if head == 0xC7:
            return unpadded(self.blob(64))
        if head == 0xC8:
            return url_safe(self.blob(self.varint()))
        if head == 0xC9:
            server = self.server(depth + 1)
            return "mxc://" + server + "/" + self.text(depth + 1)
        if head == 0xCB:
            return str(self.varint())
        if head == 0xCC:
            return self.take(2 * self.varint()).decode("utf-16-be", "surrogatepass")
        if head == 0xCD:
            index = self.varint()
            if index >= len(self.tables.prefixes):
                raise Malformed("an unknown prefix")
            return self.tables.prefixes[index] + self.text(depth + 1)
        if head == 0xCE:
            index = self.varint()
            if index >= len(self.again):
                raise Malformed("nothing to repeat")
            return self.stands_for(self.again[index])
        if head == 0xCF:
            number, text = self.varint(), self.text(depth + 1)
            if number >= 5 * MOST_SLOTS or units(text) > MOST_HANDLE_UNITS:
                raise Malformed("too large a handle")
            self.handles[HANDLE_KINDS[number % 5], number // 5] = text
            return text
        if 0xD0 <= head <= 0xD4:
            return self.handle(HANDLE_KINDS[head - 0xD0], self.varint())
        if head == 0xD6:
            time = self.time + self.signed()
            return "m%d.%d" % (time, self.varint())
        raise Malformed("an unknown form")

    def handle(self, kind, slot):
        if (kind, slot) not in self.handles:
            raise Malformed("an unknown handle")
        return self.stands_for(self.handles[kind, slot])

    def server(self, depth=0):
        if self.peek() >> 5 == 0:
            index = self.argument()
            if index >= len(self.servers):
                raise Malformed("an unknown server")
            return self.stands_for(self.servers[index])
        server = self.text(depth)
        if server not in self.servers and len(self.servers) < MOST_SERVERS:
            self.servers.append(server)
        return server

    def stands_for(self, text):
        self.units += units(text)
        if self.units > MOST_UNITS:
            raise Malformed("too large")
        return text

    def target(self):
        first = self.byte()
        if first == 0xFF:
            method, path = self.listed(METHODS), None
            path = self.text()
        else:
            version = self.listed(self.tables.versions) if first == 0xFE else None
            number = self.byte() if first == 0xFE else first
            if number >= len(self.tables.routes):
                raise Malformed("an unknown route")
            method, segments = self.tables.routes[number]
            path = "/".join(self.segment(i, segment, version) for i, segment in enumerate(segments))
        query = self.query() if self.at < len(self.data) and self.peek() == 0xF7 else ""
        return method, path, query

    def segment(self, i, segment, version):
        if segment.startswith("{"):
            return self.part(KINDS.get(segment[1:-1], "text"))
        # /_matrix/client/v3/...
        return version if i == 3 and version is not None else segment

    def listed(self, words):
        if self.peek() >> 5 != 0:
            return self.text()
        index = self.argument()
        if index >= len(words):
            raise Malformed("not in the list")
        return words[index]

    def query(self):
        self.byte()
        return "&".join(self.query_part() for _ in range(self.varint()))

    def query_part(self):
        major = self.peek() >> 5
        if major == 1:
            if self.negative() != -1:
                raise Malformed("an unknown key")
            return self.text()
        if major == 0:
            number = self.argument()
            if number >= len(self.tables.query_keys):
                raise Malformed("an unknown key")
            key, kind = self.tables.query_keys[number]
        else:
            key, kind = self.text(), "text"
        return key + "=" + self.part(kind)

    def part(self, kind):
        as_it_is = self.peek() == 0xF7
        if as_it_is:
            self.byte()
        text = self.parameter(kind)
        return text if as_it_is else quote(text, safe=UNRESERVED)

    def parameter(self, kind):
        if self.peek() >> 5 != 0 or kind == "text":
            return self.server() if kind == "server" else self.text()
        if kind == "server":
            return self.server()
        if kind == "digits":
            return str(self.argument())
        if kind == "transaction":
            number = self.argument()
            return str(number - 1) if number else "~"
        return self.handle(kind, self.argument())

    def body(self):
        if self.end():
            return None
        if self.peek() == 0xFF:
            self.byte()
            media_type = self.argument() if self.peek() >> 5 == 0 else self.text()
            return {"media type": media_type, "bytes": self.take(len(self.data) - self.at).hex()}
        return {"json": self.value()}


def units(text):
    return len(text.encode("utf-16-be", "surrogatepass")) // 2


def unpadded(data):
    return base64.b64encode(data).decode().rstrip("=")


def url_safe(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unpack(container, dictionary):
    """The content and the blobs of a compact container."""
    first = container[0]
    form, has_blobs, number, at = first >> 5 & 3, first & 0x10, first & 15, 1
    if first < 0x80:
        raise Malformed("not the compact form")
    if number == 0:
        number, at = container[1], 2
    if form > 1 or number != 2:
        raise Malformed("not known: form %d of %d" % (form, number))
    blobs = None
    if has_blobs:
        length, shift = 0, 0
        while True:
            byte = container[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        blobs = container[at : at + length]
        at += length
        if len(blobs) < length:
            raise Malformed("too few blobs")
    packed = container[at:]
    if form == 0:
        return packed, blobs
    most = min(MOST_BYTES, max(FREE_BYTES, MOST_RATIO * len(packed)))
    inflate = zlib.decompressobj(-15, zdict=dictionary)
    content = inflate.decompress(packed, most)
    if inflate.unconsumed_tail or not inflate.eof:
        raise Malformed("too large, or cut off")
    return content, blobs


def dictionary_of(document, data):
    """Dictionary 2 is named by its digest."""
    digest = hashlib.sha256(data).hexdigest()
    if digest not in document:
        raise ValueError("docs/protocol.md names another dictionary than " + digest)
    return data
