"""Answers questions about Matrix rules with the modules of an installed Synapse.

One question a line of standard input, one answer a line of standard output, both JSON. A question:

    {"ask": "identify", "version": "10", "pdus": [...]}
        -> [{"id", "content_hash", "reference_hash", "redacted", "signature"} or {"error"}], base64 without padding
    {"ask": "room", "version": "10", "pdus": [{"pdu", "rejected"}]}: the room that the next questions are about
        -> the ids
    {"ask": "auth", "checks": [{"event": id, "state": [ids] or null}]}: by the state, or by the event's own auth events
        -> [{"allowed": true} or {"allowed": false, "error"}]
    {"ask": "resolve", "sets": [[[type, state_key, id], ...], ...]}
        -> [[type, state_key, id], ...]
"""

import asyncio
import hashlib
import json
import logging
import sys

from signedjson.key import decode_signing_key_base64
from synapse import event_auth
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.crypto.event_signing import (
    compute_content_hash,
    compute_event_reference_hash,
    compute_event_signature,
)
from synapse.events import make_event_from_dict
from synapse.events.utils import prune_event
from synapse.state import v1, v2
from synapse.storage.databases.main.event_federation import StateDifference
from unpaddedbase64 import encode_base64

KEY = decode_signing_key_base64("ed25519", "1", "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")


class Clock:
    async def sleep(self, duration):
        pass


class Store:
    """Everything is in the event map, so that Synapse works out all chains by itself."""

    def __init__(self, events):
        self.events = events

    async def get_events(self, ids, *args, **kwargs):
        return {i: self.events[i] for i in ids if i in self.events}

    async def get_auth_chain_difference(self, *args, **kwargs):
        return StateDifference(set(), set())


room = {}


def identify(version, pdu):
    known = KNOWN_ROOM_VERSIONS[version]
    event = make_event_from_dict(dict(pdu), known)
    event.event_id
    return {
        "id": event.event_id,
        "content_hash": encode_base64(compute_content_hash(dict(pdu), hashlib.sha256)[1]),
        "reference_hash": encode_base64(compute_event_reference_hash(event)[1]),
        "redacted": prune_event(event).get_pdu_json(),
        "signature": compute_event_signature(known, dict(pdu), "domain", KEY)["domain"]["ed25519:1"],
    }


def describe(error):
    return {"error": f"{type(error).__name__}: {error}"}


def attempt(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return describe(error)


def begin(question):
    known = KNOWN_ROOM_VERSIONS[question["version"]]
    events = [
        make_event_from_dict(
            dict(one["pdu"]), known, rejected_reason="rejected" if one["rejected"] else None
        )
        for one in question["pdus"]
    ]
    room["version"] = known
    room["events"] = {event.event_id: event for event in events}
    return [event.event_id for event in events]


async def check(event_id, state):
    events = room["events"]
    event = events[event_id]
    try:
        if state is None:
            await event_auth.check_state_independent_auth_rules(Store(events), event)
            state = event.auth_event_ids()
        event_auth.check_state_dependent_auth_rules(event, [events[i] for i in state])
        return {"allowed": True}
    except Exception as error:
        return {"allowed": False, **describe(error)}


async def resolve(question):
    events, version = room["events"], room["version"]
    sets = [{(kind, key): event for kind, key, event in one} for one in question["sets"]]
    room_id = next(iter(events.values())).room_id
    if version.state_res == 1:
        resolved = await v1.resolve_events_with_store(
            room_id, version, sets, dict(events), Store(events).get_events
        )
    else:
        resolved = await v2.resolve_events_with_store(
            Clock(), room_id, version, sets, dict(events), Store(events)
        )
    return sorted([kind, key, event] for (kind, key), event in resolved.items())


async def answer(question):
    ask = question["ask"]
    if ask == "identify":
        return [attempt(identify, question["version"], pdu) for pdu in question["pdus"]]
    if ask == "room":
        return begin(question)
    if ask == "auth":
        return [await check(one["event"], one["state"]) for one in question["checks"]]
    return await resolve(question)


async def main():
    for line in sys.stdin:
        try:
            result = await answer(json.loads(line))
        except Exception as error:
            result = describe(error)
        print(json.dumps(result), flush=True)


logging.disable(logging.CRITICAL)
asyncio.run(main())
