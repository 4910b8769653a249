import { beforeEach, describe, expect, it } from 'vitest';
import { concat } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { bad, ok } from '../../src/base/result.ts';
import { CompactReader } from '../../src/compact/value_reader.ts';
import { CompactWriter } from '../../src/compact/value_writer.ts';
import type { RoomId } from '../../src/matrix/ids.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import { A, B, C, HOUR, testKey } from './fixtures.ts';
import { Network, openSide, type Side } from './sides.ts';

let network: Network;
let a: Side;
let b: Side;
let c: Side;

beforeEach(async () => {
  network = new Network();
  network.formed = true;
  a = await openSide(network, A, testKey(1), 1);
  b = await openSide(network, B, testKey(2), 2);
  c = await openSide(network, C, testKey(3), 3);
});

const within = <T>(outcome: Promise<T>): Promise<T> => network.time.until(outcome, HOUR);

async function sharedRoom(): Promise<RoomId> {
  const room = await within(a.rooms.create(a.user('alice'), { preset: 'public_chat', name: 'Ravine' }));
  // Through a pipe a knows this key before it reads anything of b's.
  await a.keys.acceptClaimedKey(B, testKey(2).keyId, testKey(2).publicKey);
  await within(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }));
  await network.time.pass(1_000);
  return room;
}

/** Bytes of requests in their short form while something is done. */
async function bytesFor(task: () => Promise<unknown>): Promise<number> {
  const before = network.formedBytes.request;
  await within(task());
  await network.time.pass(1_000);
  return network.formedBytes.request - before;
}

it('a join sends an event without what the template said', async () => {
  const room = await within(a.rooms.create(a.user('alice'), { preset: 'public_chat' }));
  await a.keys.acceptClaimedKey(B, testKey(2).keyId, testKey(2).publicKey);
  const bytes = await bytesFor(() => b.rooms.memberships.join(b.user('bob'), room, { via: [A] }));
  expect(bytes).toBeLessThan(115);
  expect(a.forms.counters).toMatchObject({ read: 1, askedWhole: 0 });
});

it('a join is asked for whole where the room has gone on since the template', async () => {
  const room = await within(a.rooms.create(a.user('alice'), { preset: 'public_chat' }));
  await a.keys.acceptClaimedKey(B, testKey(2).keyId, testKey(2).publicKey);
  network.beforeAnswer = async ({ path }) => {
    if (!path.includes('make_join')) return;
    // More than the reader's guesses reach back.
    for (let i = 0; i < 8; i++) await a.say(a.user('alice'), room, 'meanwhile');
  };
  await within(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }));
  expect(a.forms.counters).toMatchObject({ read: 1, askedWhole: 1 });
  expect(await b.state()).toEqual(await a.state());
});

describe('transactions in their short form', () => {
  it('carry a conversation both ways, nothing of it whole', async () => {
    const room = await sharedRoom();
    const first = await bytesFor(() => a.say(a.user('alice'), room, 'Hello World'));
    await bytesFor(() => b.say(b.user('bob'), room, 'Hello'));
    const next = await bytesFor(() => a.say(a.user('alice'), room, 'Hello World'));
    // Without handles the room is its 32 bytes and a head; then header, time, signature, text.
    expect(first).toBe(33 + 1 + 2 + 64 + 11);
    expect(next).toBe(first);
    expect(await a.messages()).toEqual(['Hello World', 'Hello', 'Hello World']);
    expect(await b.messages()).toEqual(await a.messages());
    for (const { forms } of [a, b]) expect(forms.counters).toMatchObject({ writtenWhole: 0, askedWhole: 0 });
  });

  it('leave three bytes of each signature to the reader where bytes count more than work', async () => {
    const room = await sharedRoom();
    network.isSparing = true;
    const bytes = await bytesFor(() => a.say(a.user('alice'), room, 'Hello World'));
    expect(bytes).toBe(1 + 33 + 1 + 2 + 61 + 11);
    for (let i = 0; i < 5; i++) await bytesFor(() => b.say(b.user('bob'), room, `line ${i}`));
    expect(await b.messages()).toEqual(await a.messages());
    for (const { forms } of [a, b]) expect(forms.counters).toMatchObject({ writtenWhole: 0, askedWhole: 0 });
    // A signature that is not found is asked for.
    network.tamper = (sent) => sent.map((byte, i) => (i === 40 ? byte ^ 1 : byte));
    await bytesFor(() => a.say(a.user('alice'), room, 'damaged'));
    expect(b.forms.counters.askedWhole).toBeGreaterThan(0);
  });

  it('go on where each has said something that the other does not know yet', async () => {
    const room = await sharedRoom();
    await bytesFor(() => a.say(a.user('alice'), room, 'first'));
    await bytesFor(() => b.say(b.user('bob'), room, 'second'));
    network.passes = () => false;
    for (let i = 0; i < 3; i++) {
      await within(a.say(a.user('alice'), room, `a${i}`));
      await within(b.say(b.user('bob'), room, `b${i}`));
    }
    network.passes = () => true;
    await network.time.pass(HOUR);
    expect((await a.messages()).toSorted()).toEqual(['a0', 'a1', 'a2', 'b0', 'b1', 'b2', 'first', 'second']);
    expect((await b.messages()).toSorted()).toEqual((await a.messages()).toSorted());
    expect(a.forms.counters.askedWhole + b.forms.counters.askedWhole).toBe(0);
    await bytesFor(() => a.say(a.user('alice'), room, 'merged'));
    expect(await b.messages()).toContain('merged');
    expect(a.forms.counters.askedWhole + b.forms.counters.askedWhole).toBe(0);
  });

  it('are asked for whole where the views differ, and arrive', async () => {
    const room = await sharedRoom();
    await within(c.rooms.memberships.join(c.user('carol'), room, { via: [A] }));
    await network.time.pass(1_000);
    network.passes = (_, to) => to !== B;
    await within(c.say(c.user('carol'), room, 'only for a'));
    await network.time.pass(1_000);
    await within(a.say(a.user('alice'), room, 'built on it'));
    network.passes = (from) => from !== C;
    await network.time.pass(HOUR);
    network.passes = () => true;
    await network.time.pass(2 * HOUR);
    expect(await b.messages()).toEqual(expect.arrayContaining(['only for a', 'built on it']));
    expect(b.forms.counters.askedWhole).toBeGreaterThan(0);
  });
});

it('an answer to a transaction goes without saying only where it tells of no error', async () => {
  const call = { method: 'PUT', path: '/_matrix/federation/v1/send/t' };
  const written = async (answer: JsonValue): Promise<number | undefined> => {
    const formed = await b.forms.formAnswer(call, 200, answer);
    const writer = new CompactWriter({});
    formed?.write(writer);
    return formed && writer.length;
  };
  expect(await written({ pdus: {} })).toBe(0);
  expect(await written({ pdus: { $a: {} } })).toBe(0);
  expect(await written({ pdus: { $a: {}, $b: { error: 'no' } } })).toBeUndefined();
  expect(await written({ pdus: {}, more: 1 })).toBeUndefined();
  expect(await b.forms.formAnswer(call, 500, { pdus: {} })).toBeUndefined();
});

it('of a transaction only what was not understood goes again, with its previous events named and then whole', async () => {
  const [quiet, other] = [await sharedRoom(), await sharedRoom()];
  await within(c.rooms.memberships.join(c.user('carol'), other, { via: [A] }));
  await network.time.pass(1_000);
  const before = { ...a.forms.counters };
  network.passes = (_, to) => to !== B;
  for (let i = 0; i < 8; i++) await within(c.say(c.user('carol'), other, `only for a ${i}`));
  await network.time.pass(1_000);
  for (const room of [quiet, quiet, other]) await within(a.say(a.user('alice'), room, 'to all'));
  network.passes = (from, to) => from === A && to === B;
  await network.time.pass(10 * 60_000);
  // The last of several.
  expect(
    network.calls.filter(({ from, to, path }) => from === A && to === B && path.includes('/send/')).length,
  ).toBe(3);
  expect(a.forms.counters.writtenWhole - before.writtenWhole).toBe(1);
  expect(a.forms.counters.askedWhole - before.askedWhole).toBe(2);
});

describe('bytes that nobody wrote', () => {
  /** Changes, cuts or lengthens. */
  const mutated = (bytes: Uint8Array, dice: Random): Uint8Array => {
    const changed = Uint8Array.from(bytes);
    for (let n = dice.integer(3); n >= 0; n--) changed[dice.integer(changed.length)] = dice.integer(256);
    const kind = dice.integer(4);
    if (kind === 0) return changed.subarray(0, dice.integer(changed.length));
    return kind === 1 ? concat(changed, dice.bytes(1 + dice.integer(40))) : changed;
  };

  it('in a transaction are refused or asked for whole, or make an event that its signature does not fit', async () => {
    const room = await sharedRoom();
    const sent: Uint8Array[] = [];
    network.tamper = (bytes) => {
      sent.push(bytes);
      return bytes;
    };
    network.passes = () => false;
    for (let i = 0; i < 5; i++) await within(a.say(a.user('alice'), room, `message ${i}`));
    await within(a.rooms.sending.setState(room, a.user('alice'), 'm.room.topic', '', { topic: 'x' }));
    network.passes = () => true;
    const refused: Record<number, number> = {};
    const bodies: JsonValue[] = [];
    const before = await b.state();
    network.passes = (from) => from === A && sent.length === 0;
    await network.time.pass(HOUR);
    network.passes = () => false;
    const dice = seededRandom(5);
    const call = { method: 'PUT', path: '/_matrix/federation/v1/send/t' };
    for (const whole of sent.slice(0, 2)) {
      for (let i = 0; i < 300; i++) {
        const reader = new CompactReader(mutated(whole, dice), 0, {});
        const restored = await b.forms.restoreRequest(A, call, reader);
        if (restored.ok) bodies.push(restored.value);
        else refused[restored.problem.status] = (refused[restored.problem.status] ?? 0) + 1;
      }
    }
    expect(Object.keys(refused)).toEqual(['400', '422']);
    const known = new Set(
      (await a.database.all<{ event_id: string }>('SELECT event_id FROM events')).map(
        ({ event_id }) => event_id,
      ),
    );
    for (const body of bodies) {
      for (const pdu of (body as { pdus: JsonValue[] }).pdus) {
        const checked = await b.keys.check(pdu, '12');
        if (checked.ok) expect(known).toContain(checked.value.id);
      }
    }
    // Reading alone does nothing.
    expect(await b.state()).toEqual(before);
  });

  it('in an answer are an error, or lists of what are no events', async () => {
    const room = await sharedRoom();
    for (let i = 0; i < 5; i++) await within(a.say(a.user('alice'), room, `message ${i}`));
    const pdus = (await a.database.all<{ json: string }>('SELECT json FROM events ORDER BY depth')).map(
      ({ json }) => JSON.parse(json) as JsonValue,
    );
    const path = `/_matrix/federation/v1/get_missing_events/${encodeURIComponent(room)}`;
    const call = { method: 'POST', path };
    const formed = await a.forms.formAnswer(call, 200, { events: pdus });
    const writer = new CompactWriter({});
    formed!.write(writer);
    const whole = writer.done();
    expect(b.forms.restoreAnswer(call, new CompactReader(whole, 0, {}))).toEqual(ok({ events: pdus }));
    const dice = seededRandom(6);
    let errors = 0;
    for (let i = 0; i < 1_000; i++) {
      const restored = b.forms.restoreAnswer(call, new CompactReader(mutated(whole, dice), 0, {}));
      if (!restored.ok) errors++;
    }
    expect(errors).toBeGreaterThan(500);
  });

  it('cannot ask for many events by few bytes', async () => {
    const call = { method: 'GET', path: '/_matrix/federation/v1/event/x' };
    const writer = new CompactWriter({});
    writer.digits('12');
    writer.named(`!${'a'.repeat(43)}`, 'room');
    writer.varint(2 ** 50);
    const restored = b.forms.restoreAnswer(call, new CompactReader(writer.done(), 0, {}));
    expect(restored).toEqual(bad('too many events'));
  });
});
