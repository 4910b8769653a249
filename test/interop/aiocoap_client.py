"""aiocoap's client, told by standard input what to ask: one JSON object a line, and the same way back.

    {"id": 1, "code": 1, "uri": "coap://...", "payload": hex, "options": [[number, hex]], "size": SZX of block2 or null, "non": false,
     "observe": false, "timeout": seconds}     asks; answered by {"id", "code", "payload", "options"} or {"id", "error"}
    {"id": 1, "cancel": true}                   ends an observation
"""

import asyncio
import json
import sys

import aiocoap
from aiocoap.optiontypes import OpaqueOption


def said(id, message):
    options = [[int(option.number), option.encode().hex()] for option in message.opt.option_list()]
    code = int(message.code)
    return {"id": id, "code": f"{code >> 5}.{code & 31:02}", "payload": message.payload.hex(), "options": options}


def say(line):
    print(json.dumps(line), flush=True)


def built(order):
    kind = aiocoap.Unreliable if order["non"] else aiocoap.Reliable
    message = aiocoap.Message(
        code=aiocoap.Code(order["code"]),
        uri=order["uri"],
        payload=bytes.fromhex(order["payload"]),
        transport_tuning=kind(),
    )
    for number, value in order["options"]:
        message.opt.add_option(OpaqueOption(aiocoap.OptionNumber(number), bytes.fromhex(value)))
    if order["observe"]:
        message.opt.observe = 0
    if order["size"] is not None:
        message.opt.block2 = (0, False, order["size"])
    return message


async def ask(context, order):
    id = order["id"]
    try:
        request = context.request(built(order))
        response = await asyncio.wait_for(request.response, order["timeout"])
        say(said(id, response))
        if order["observe"]:
            try:
                async for notification in request.observation:
                    say(said(id, notification))
                say({"id": id, "error": "the observation has ended"})
            finally:
                if not request.observation.cancelled:
                    request.observation.cancel()
    except Exception as error:
        say({"id": id, "error": f"{type(error).__name__}: {error}"})


async def main():
    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    lines = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    tasks = {}
    while line := await lines.readline():
        order = json.loads(line)
        if "cancel" in order:
            tasks[order["id"]].cancel()
        else:
            tasks[order["id"]] = asyncio.create_task(ask(context, order))
    await context.shutdown()


asyncio.run(main())
