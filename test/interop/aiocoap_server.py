"""A server of aiocoap with the resources that the tests ask for; its port is the argument."""

import asyncio
import json
import sys

import aiocoap
from aiocoap import Message
from aiocoap import error, resource

LARGE = bytes((i * 7 + (i >> 8)) & 0xFF for i in range(100_000))


class Test(resource.Resource):
    value = b"test"

    async def render_get(self, request):
        if request.opt.accept not in (None, 0):
            return Message(code=aiocoap.NOT_ACCEPTABLE)
        return Message(payload=self.value, content_format=0)

    async def render_put(self, request):
        if request.opt.content_format not in (None, 0):
            raise error.UnsupportedContentFormat()
        self.value = request.payload
        return Message(code=aiocoap.CHANGED)

    async def render_delete(self, request):
        self.value = b"test"
        return Message(code=aiocoap.DELETED)

    async def render_post(self, request):
        return Message(code=aiocoap.CHANGED, payload=b"POST " + request.payload)

    async def render_fetch(self, request):
        return Message(code=aiocoap.CONTENT, payload=b"FETCH " + request.payload)

    async def render_patch(self, request):
        return Message(code=aiocoap.CHANGED, payload=b"PATCH " + request.payload)

    async def render_ipatch(self, request):
        return Message(code=aiocoap.CHANGED, payload=b"iPATCH " + request.payload)


class Large(resource.Resource):
    async def render_get(self, request):
        return Message(payload=LARGE)


class LargeUpdate(resource.Resource):
    value = b""

    async def render_get(self, request):
        return Message(payload=self.value)

    async def render_put(self, request):
        self.value = request.payload
        return Message(code=aiocoap.CHANGED)


class LargePost(resource.Resource):
    async def render_post(self, request):
        return Message(code=aiocoap.CHANGED, payload=bytes(byte ^ 0xFF for byte in request.payload))

    async def render_fetch(self, request):
        return Message(code=aiocoap.CONTENT, payload=bytes(byte ^ 0xFF for byte in request.payload))


class Separate(resource.Resource):
    async def render_get(self, request):
        await asyncio.sleep(0.5)
        return Message(payload=b"separate")


class Echo(resource.Resource, resource.PathCapable):
    async def render_get(self, request):
        said = {"path": ["echo", *request.opt.uri_path], "query": list(request.opt.uri_query)}
        return Message(payload=json.dumps(said).encode())


class Observed(resource.ObservableResource):
    """A PUT sets its text; its representation is that text so many times."""

    def __init__(self, times):
        super().__init__()
        self.times = times
        self.value = b"0"

    async def render_get(self, request):
        return Message(payload=self.value * self.times)

    async def render_put(self, request):
        self.value = request.payload
        self.updated_state()
        return Message(code=aiocoap.CHANGED)

    def update_observation_count(self, newcount):
        print(f"observers of {self.times}: {newcount}", flush=True)


class Validate(resource.Resource):
    async def render_get(self, request):
        response = Message(payload=b"valid", etag=b"\x01\x02")
        if b"\x01\x02" in request.opt.etags:
            response.code, response.payload = aiocoap.VALID, b""
        return response

    async def render_put(self, request):
        if request.opt.if_match and b"\x01\x02" not in request.opt.if_match:
            return Message(code=aiocoap.PRECONDITION_FAILED)
        return Message(code=aiocoap.CHANGED)


class Location(resource.Resource):
    async def render_post(self, request):
        return Message(code=aiocoap.CREATED, location_path=["location", "1"], location_query=["a=b"])


class Proved(resource.Resource):
    """Answers only who has shown that it gets what is sent to its address (RFC 9175, section 2)."""

    async def render_get(self, request):
        if request.opt.echo != b"prove":
            return Message(code=aiocoap.UNAUTHORIZED, echo=b"prove")
        return Message(payload=b"proved")


async def main():
    site = resource.Site()
    site.add_resource([".well-known", "core"], resource.WKCResource(site.get_resources_as_linkheader))
    for path, one in {
        "test": Test(),
        "large": Large(),
        "large-update": LargeUpdate(),
        "large-post": LargePost(),
        "separate": Separate(),
        "echo": Echo(),
        "obs": Observed(1),
        "obs-large": Observed(100_000),
        "validate": Validate(),
        "location": Location(),
        "proved": Proved(),
    }.items():
        site.add_resource([path], one)
    site.add_resource(["seg1", "seg2", "seg3"], Test())
    context = await aiocoap.Context.create_server_context(
        site, bind=("127.0.0.1", int(sys.argv[1])), transports=["udp6"]
    )
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await lines.read()
    await context.shutdown()


asyncio.run(main())
