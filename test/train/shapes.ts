import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import type { FastifyInstance } from 'fastify';
import { base64, concat } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { Work } from '../../src/base/work.ts';
import type { MessageHandles } from '../../src/compact/context.ts';
import { MAX_MESSAGE_BYTES } from '../../src/compact/mixer/contexts.ts';
import { type Target, writeTarget } from '../../src/compact/target.ts';
import { CompactWriter } from '../../src/compact/value_writer.ts';
import { sha256 } from '../../src/crypto/sha256.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { MatrixUser } from '../../src/mesh/matrix_user.ts';
import { startEphemeral } from '../../src/server/ephemeral.ts';
import type { Line } from './corpus.ts';
import { eachOnce, HOSTS, NAMES } from './names.ts';
import type { Sample } from './samples.ts';

const SERVER = 'ravine.example';
const USERS = 8;
const ROOMS = 10;
const MESSAGES_A_ROOM = 24;
/** The longest pause between two messages. */
const PAUSE_MS = 10 * 60 * 1000;
const ERRORS: readonly JsonObject[] = [
  { errcode: 'M_FORBIDDEN', error: 'You are not allowed to do that' },
  { errcode: 'M_NOT_FOUND', error: 'Not found' },
  { errcode: 'M_UNKNOWN_TOKEN', error: 'Unknown access token', soft_logout: false },
  { errcode: 'M_LIMIT_EXCEEDED', error: 'Too many requests', retry_after_ms: 2000 },
  { errcode: 'M_MISSING_PARAM', error: 'A parameter is missing' },
  { errcode: 'M_UNRECOGNIZED', error: 'Unrecognized request' },
];

/** A request, or an answer, as it was recorded. */
interface Recorded {
  readonly target?: Target;
  readonly body?: JsonValue;
}

/**
 * What our own server and its clients say in conversations about the lines of the corpus, in the compact form without what
 * nothing compresses: requests, answers, events and errors. Recorded in virtual time: the same each time.
 */
export async function recordShapes(lines: readonly Line[]): Promise<Sample[]> {
  const random = seededRandom(20);
  const recorded: Recorded[] = ERRORS.map((body) => ({ body }));
  const folder = mkdtempSync(join(tmpdir(), 'ravine-train-'));
  const clock = new VirtualClock();
  try {
    const homeserver = await startEphemeral({
      clock,
      random: seededRandom(21),
      work: new Work({ oneAtATime: true }),
      folder,
      config: { server_name: SERVER },
    });
    await converse(homeserver.app, lines, clock, random, recorded);
    await homeserver.stop();
    const pick = eachOnce([...lines].reverse(), random);
    for (const pdu of storedPdus(join(folder, SERVER, 'ravine.db')))
      recorded.push({ body: saying(pdu, pick) });
  } finally {
    rmSync(folder, { recursive: true });
  }
  return recorded
    .map((one) => sampleOf(elsewhere(one, random), random))
    .filter(({ bytes }) => bytes.length <= MAX_MESSAGE_BYTES);
}

/** Rooms of two, with names and topics, in which lines of the corpus are said. */
async function converse(
  app: FastifyInstance,
  lines: readonly Line[],
  clock: VirtualClock,
  random: Random,
  recorded: Recorded[],
): Promise<void> {
  const pick = eachOnce(lines, random);
  const users: MatrixUser[] = [];
  for (const name of NAMES.slice(0, USERS)) users.push(await MatrixUser.register(app, name));
  for (let i = 0; i < ROOMS; i++) {
    const [one, other] = [users[i % USERS]!, users[(i + 1) % USERS]!];
    const creation: JsonObject = { preset: 'private_chat', name: pick(), topic: pick(), invite: [other.id] };
    const room = await one.createRoom(creation);
    await other.join(room);
    recorded.push(
      { target: target('POST', 'createRoom'), body: creation },
      { body: { room_id: room } },
      { body: {} },
    );
    const within = `rooms/${encodeURIComponent(room)}`;
    for (let j = 0; j < MESSAGES_A_ROOM; j++) {
      const body = pick();
      clock.advanceTo(clock.monotonic() + random.integer(PAUSE_MS));
      const id = await (random.integer(2) === 0 ? one : other).say(room, body);
      const send = (type: string, content: JsonObject): void => {
        recorded.push({
          target: target('PUT', `${within}/send/${type}/${transaction(clock, random)}`),
          body: content,
        });
      };
      recorded.push({ body: { event_id: id } });
      for (const said of [body, pick(), pick()]) send('m.room.message', { msgtype: 'm.text', body: said });
      const relation: JsonObject = { 'm.in_reply_to': { event_id: id } };
      if (j % 4 === 0) send('m.room.message', { msgtype: 'm.text', body: pick(), 'm.relates_to': relation });
      if (j % 4 === 1)
        send('m.reaction', { 'm.relates_to': { rel_type: 'm.annotation', event_id: id, key: '👍' } });
      if (j % 4 === 2) send('m.room.encrypted', encrypted(random));
      if (j % 8 === 3)
        recorded.push(
          { target: target('POST', `${within}/receipt/m.read/${encodeURIComponent(id)}`), body: {} },
          {
            target: target('PUT', `${within}/typing/${encodeURIComponent(one.id)}`),
            body: { typing: true, timeout: 30000 },
          },
          { target: target('PUT', `${within}/state/m.room.topic/`), body: { topic: pick() } },
          { target: target('GET', 'sync', `timeout=30000&since=s${random.integer(5000)}`) },
        );
    }
    await one.syncOnce();
    for (const event of one.timelines.get(room) ?? []) recorded.push({ body: saying({ ...event }, pick) });
  }
}

const target = (method: string, rest: string, query = ''): Target => ({
  method,
  path: `/_matrix/client/v3/${rest}`,
  query,
});

/** Transaction ids as clients make them: of a time and a number, or a number alone. */
const transaction = (clock: VirtualClock, random: Random): string =>
  random.integer(3) === 0 ? `m${clock.wall()}.${random.integer(40)}` : `${random.integer(3000)}`;

const encrypted = (random: Random): JsonObject => ({
  algorithm: 'm.megolm.v1.aes-sha2',
  sender_key: base64(random.bytes(32)),
  ciphertext: base64(random.bytes(80 + random.integer(100))),
  session_id: base64(random.bytes(32)),
  device_id: base64(random.bytes(8))
    .toUpperCase()
    .replace(/[^A-Z]/g, 'X')
    .slice(0, 10),
});

/** The PDUs as the server has stored them. */
function storedPdus(path: string): JsonObject[] {
  const database = new Sqlite(path, { readonly: true });
  const rows = database.prepare<[], { json: string }>('SELECT json FROM events ORDER BY id').all();
  database.close();
  return rows.map(({ json }) => JSON.parse(json) as JsonObject);
}

/** An event with another text, so that no text is predicted from its copy in another sample. */
function saying(event: JsonObject, pick: () => string): JsonObject {
  const { content } = event;
  const says = typeof content === 'object' && content !== null && 'body' in content;
  return says ? { ...event, content: { ...(content as JsonObject), body: pick() } } : event;
}

/** The same with the users and the server under other names. */
function elsewhere(recorded: Recorded, random: Random): Recorded {
  const host = HOSTS[random.integer(HOSTS.length)]!;
  const shift = random.integer(NAMES.length);
  const text = JSON.stringify(recorded)
    .replaceAll(SERVER, host)
    .replace(
      /(@|%40)(\w+)(:|%3A)/g,
      (_, at: string, name: string, colon: string) =>
        `${at}${NAMES[(NAMES.indexOf(name) + shift) % NAMES.length]}${colon}`,
    );
  return JSON.parse(text) as Recorded;
}

/** Written as in the middle of a session: rooms and users have handles already, some events too. */
function sampleOf({ target, body }: Recorded, random: Random): Sample {
  const slots = { room: 8, user: 16, event: 32, server: 4, device: 4 } as const;
  const handles: MessageHandles = {
    write: (kind, text) =>
      kind === 'event' && random.integer(2) === 0
        ? undefined
        : { kind: 'known', slot: sha256(text)[0]! % slots[kind] },
    read: () => ({ kind: 'unknown handle' }),
    introduce: () => false,
  };
  const writer = new CompactWriter(random.integer(4) === 0 ? {} : { handles });
  if (target !== undefined) writeTarget(writer, target);
  if (body !== undefined) writer.value(body);
  const { bytes, blobs } = writer.content();
  const ends = [0, ...blobs.map(([, end]) => end)];
  const starts = [...blobs.map(([start]) => start), bytes.length];
  const rest = concat(...starts.map((start, i) => bytes.subarray(ends[i], start)));
  return { bytes: rest, form: target === undefined ? 'answer' : 'request', worth: 'usual' };
}
