"""Two users of two servers as matrix-nio has them: python nio_conversation.py ALPHA_URL BRAVO_URL

Ends with status 1 where something is not as it should be, or the library complains.
"""

import asyncio
import logging
import sys

from nio import (
    AsyncClient,
    AsyncClientConfig,
    MessageDirection,
    RedactedEvent,
    RoomMessageText,
    RoomPreset,
    RoomVisibility,
)
from nio.api import ReceiptType
from nio.events import ReceiptEvent, TypingNoticeEvent
from nio.responses import ErrorResponse

PASSWORD = "a long enough password"
LONG_POLL_MS = 2_000
PATIENCE = 30

complaints = []


class Complaints(logging.Handler):
    def emit(self, record):
        complaints.append(record.getMessage())


def checked(response):
    assert not isinstance(response, ErrorResponse), response
    return response


class Person:
    """A client, and all that it has been told."""

    def __init__(self, url, name):
        config = AsyncClientConfig(encryption_enabled=False, max_timeouts=3, max_limit_exceeded=0)
        self.client = AsyncClient(url, name, config=config)
        self.name = name
        self.messages = {}
        self.receipts = []
        self.typing = []
        self.client.add_event_callback(self._message, RoomMessageText)
        self.client.add_ephemeral_callback(self._receipt, ReceiptEvent)
        self.client.add_ephemeral_callback(self._typing, TypingNoticeEvent)

    def _message(self, room, event):
        self.messages.setdefault(room.room_id, []).append((event.event_id, event.sender, event.body))

    def _receipt(self, room, event):
        self.receipts += event.receipts

    def _typing(self, room, event):
        self.typing.append(event.users)

    async def arrive(self):
        checked(await self.client.register(self.name, PASSWORD))
        checked(await self.client.logout())
        checked(await self.client.login(PASSWORD, device_name="nio"))
        checked(await self.client.sync(timeout=0, full_state=True))

    async def until(self, what, condition):
        for _ in range(PATIENCE):
            if condition():
                return
            checked(await self.client.sync(timeout=LONG_POLL_MS))
        assert condition(), f"{self.name} waited in vain until {what}"

    async def say(self, room, body):
        content = {"msgtype": "m.text", "body": body}
        return checked(await self.client.room_send(room, "m.room.message", content)).event_id

    def sees(self, room, user):
        return room in self.client.rooms and user in self.client.rooms[room].users

    def bodies(self, room):
        return [body for _, _, body in self.messages.get(room, [])]


async def talk(alice, bob):
    await alice.arrive()
    await bob.arrive()
    bob_id = bob.client.user_id
    room = checked(
        await alice.client.room_create(
            visibility=RoomVisibility.private,
            name="The ravine",
            topic="What is down there",
            preset=RoomPreset.private_chat,
            invite=[bob_id],
        )
    ).room_id
    await bob.until("he is invited", lambda: room in bob.client.invited_rooms)
    checked(await bob.client.join(room))
    await bob.until("he is in the room", lambda: room in bob.client.rooms)
    await alice.until("bob is in the room", lambda: alice.sees(room, bob_id))
    assert bob.client.rooms[room].name == "The ravine"
    assert bob.client.rooms[room].topic == "What is down there"

    first = await alice.say(room, "Hello from alpha")
    await bob.until("he is greeted", lambda: "Hello from alpha" in bob.bodies(room))
    second = await bob.say(room, "Hello from bravo")
    await alice.until("she is greeted", lambda: "Hello from bravo" in alice.bodies(room))

    checked(await bob.client.room_typing(room, True, timeout=20_000))
    await alice.until("bob types", lambda: [bob_id] in alice.typing)
    checked(await bob.client.room_typing(room, False))
    await alice.until("bob types no more", lambda: alice.typing[-1] == [])

    checked(await bob.client.update_receipt_marker(room, first, ReceiptType.read))
    await alice.until(
        "bob has read", lambda: (bob_id, first) in [(one.user_id, one.event_id) for one in alice.receipts]
    )
    checked(await bob.client.room_read_markers(room, second, second))
    await bob.until("his marker is there", lambda: bob.client.rooms[room].fully_read_marker == second)

    checked(await alice.client.room_redact(room, first, reason="said too much"))
    redacted = await alice.client.room_get_event(room, first)
    assert isinstance(checked(redacted).event, RedactedEvent), redacted
    for number in range(5):
        await alice.say(room, f"more {number}")
    await bob.until("he has heard more", lambda: "more 4" in bob.bodies(room))
    back = checked(
        await bob.client.room_messages(room, bob.client.next_batch, direction=MessageDirection.back, limit=100)
    )
    told = [event.body for event in back.chunk if isinstance(event, RoomMessageText)]
    assert told == [f"more {number}" for number in reversed(range(5))] + ["Hello from bravo"], told
    assert [event.event_id for event in back.chunk if isinstance(event, RedactedEvent)] == [first], back.chunk
    assert bob.bodies(room).count("more 3") == 1

    checked(await alice.client.set_displayname("Alice A."))
    alice_id = alice.client.user_id
    await bob.until("alice has a name", lambda: bob.client.rooms[room].user_name(alice_id) == "Alice A.")
    assert checked(await bob.client.get_displayname(alice_id)).displayname == "Alice A."
    checked(await bob.client.room_leave(room))
    await alice.until("bob has left", lambda: not alice.sees(room, bob_id))
    assert room not in checked(await bob.client.joined_rooms()).rooms
    checked(await bob.client.room_forget(room))
    for person in (alice, bob):
        checked(await person.client.logout())


async def main(alpha, bravo):
    alice, bob = Person(alpha, "alice"), Person(bravo, "bob")
    try:
        await talk(alice, bob)
    finally:
        await alice.client.close()
        await bob.client.close()


logger = logging.getLogger("nio")
logger.addHandler(Complaints(level=logging.WARNING))
logger.propagate = False
asyncio.run(main(*sys.argv[1:]))
assert complaints == [], complaints
