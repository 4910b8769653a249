"""A user of matrix-nio in an encrypted room: python nio_encrypted.py URL NAME STORE

Says `ready USER`, waits for an invitation and says `joined`; then reads a greeting from each of two people, answers them,
and reads the goodbye. Ends with status 1 where something is not as it should be, or the library complains.
"""

import asyncio
import logging
import sys

from nio import AsyncClient, AsyncClientConfig, MegolmEvent, RoomMessageText
from nio.responses import ErrorResponse

PASSWORD = "a long enough password"
LONG_POLL_MS = 2_000
PATIENCE = 60

complaints = []


class Complaints(logging.Handler):
    def emit(self, record):
        # So it says that it is about to claim a key.
        if not record.getMessage().startswith("Missing session for device"):
            complaints.append(record.getMessage())


def checked(response):
    assert not isinstance(response, ErrorResponse), response
    return response


class Nora:
    def __init__(self, url, name, store):
        config = AsyncClientConfig(encryption_enabled=True, max_timeouts=3, max_limit_exceeded=0)
        self.client = AsyncClient(url, name, store_path=store, config=config)
        self.name = name
        self.read = []
        self.unread = []
        self.client.add_event_callback(self._message, RoomMessageText)
        self.client.add_event_callback(self._undecryptable, MegolmEvent)

    def _message(self, room, event):
        assert event.decrypted, event
        self.read.append(event.body)

    def _undecryptable(self, room, event):
        self.unread.append(event)

    async def arrive(self):
        checked(await self.client.register(self.name, PASSWORD))
        checked(await self.client.logout())
        checked(await self.client.login(PASSWORD, device_name="nio"))
        await self.sync(0)

    async def sync(self, timeout):
        """One answer of the server, and all that it asks the client to do."""
        checked(await self.client.sync(timeout=timeout))
        for response in await self.client.send_to_device_messages():
            checked(response)
        if self.client.should_upload_keys:
            checked(await self.client.keys_upload())
        if self.client.should_query_keys:
            checked(await self.client.keys_query())
        if self.client.should_claim_keys:
            checked(await self.client.keys_claim(self.client.get_users_for_key_claiming()))

    async def until(self, what, condition):
        for _ in range(PATIENCE):
            if condition():
                return
            await self.sync(LONG_POLL_MS)
        assert condition(), f"{self.name} waited in vain until {what}"

    async def talk(self):
        await self.arrive()
        print("ready", self.client.user_id, flush=True)
        await self.until("she is invited", lambda: self.client.invited_rooms)
        room = next(iter(self.client.invited_rooms))
        checked(await self.client.join(room))
        await self.until("she is in", lambda: room in self.client.rooms)
        assert self.client.rooms[room].encrypted
        # What was said before is not for her.
        self.unread.clear()
        complaints.clear()
        print("joined", flush=True)
        for who in ("alice", "bob"):
            await self.until(f"{who} greets her", lambda: f"Hello nora, from {who}" in self.read)
        content = {"msgtype": "m.text", "body": "Hello from nio"}
        checked(await self.client.room_send(room, "m.room.message", content, ignore_unverified_devices=True))
        await self.until("they say goodbye", lambda: "Goodbye" in self.read)
        assert self.unread == [], self.unread
        checked(await self.client.logout())


async def main(url, name, store):
    nora = Nora(url, name, store)
    try:
        await nora.talk()
    finally:
        await nora.client.close()


logger = logging.getLogger("nio")
logger.addHandler(Complaints(level=logging.WARNING))
logger.propagate = False
asyncio.run(main(*sys.argv[1:]))
assert complaints == [], complaints
