import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import type { FastifyInstance } from 'fastify';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { Work } from '../../src/base/work.ts';
import { encodeJson } from '../../src/compact/cbor.ts';
import { MAX_MESSAGE_BYTES } from '../../src/compact/mixer/contexts.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { MatrixUser } from '../../src/mesh/matrix_user.ts';
import { startEphemeral } from '../../src/server/ephemeral.ts';
import type { Line } from './corpus.ts';
import type { Sample } from './samples.ts';

/** How a JSON value is written before it is compressed. */
export type Encode = (value: JsonValue) => Uint8Array;

const SERVER = 'ravine.example';
const USERS = 8;
const ROOMS = 10;
const MESSAGES_A_ROOM = 24;
/** The longest pause between two messages. */
const PAUSE_MS = 10 * 60 * 1000;
/** Invented names, so that a model knows what a name looks like and no server in particular. */
const NAMES = [
  'anna',
  'ben',
  'carla',
  'david',
  'elif',
  'fatima',
  'georg',
  'hana',
  'ivan',
  'jose',
  'lena',
  'li',
  'maria',
  'noah',
  'olga',
  'paul',
  'rami',
  'sofia',
  'tom',
  'yara',
];
const HOSTS = [
  'matrix.org',
  'example.org',
  'chat.example.com',
  'hs1.example.net',
  'home.lan',
  'village.mesh',
  'ship.example',
  'clinic.example.org',
  'relay-7.example',
  'station.local',
];
const ERRORS: readonly JsonObject[] = [
  { errcode: 'M_FORBIDDEN', error: 'You are not allowed to do that' },
  { errcode: 'M_NOT_FOUND', error: 'Not found' },
  { errcode: 'M_UNKNOWN_TOKEN', error: 'Unknown access token', soft_logout: false },
  { errcode: 'M_LIMIT_EXCEEDED', error: 'Too many requests', retry_after_ms: 2000 },
  { errcode: 'M_MISSING_PARAM', error: 'A parameter is missing' },
  { errcode: 'M_UNRECOGNIZED', error: 'Unrecognized request' },
];

/**
 * What our own server makes of conversations about the lines of the corpus: contents as clients send them, events as
 * clients get them, PDUs as they are stored, answers and errors. Recorded in virtual time: the same each time.
 */
export async function recordShapes(lines: readonly Line[], encode: Encode = encodeJson): Promise<Sample[]> {
  const random = seededRandom(20);
  const values: JsonValue[] = [...ERRORS];
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
    await converse(homeserver.app, lines, clock, random, values);
    await homeserver.stop();
    values.push(...storedPdus(join(folder, SERVER, 'ravine.db')));
  } finally {
    rmSync(folder, { recursive: true });
  }
  return values
    .map((value) => encode(elsewhere(value, random)))
    .filter((bytes) => bytes.length <= MAX_MESSAGE_BYTES)
    .map((bytes) => ({ bytes, structured: true, precious: false }));
}

/** Rooms of two, with names and topics, in which lines of the corpus are said. */
async function converse(
  app: FastifyInstance,
  lines: readonly Line[],
  clock: VirtualClock,
  random: Random,
  values: JsonValue[],
): Promise<void> {
  const pick = (): string => lines[random.integer(lines.length)]!.text;
  const users: MatrixUser[] = [];
  for (const name of NAMES.slice(0, USERS)) users.push(await MatrixUser.register(app, name));
  for (let i = 0; i < ROOMS; i++) {
    const [one, other] = [users[i % USERS]!, users[(i + 1) % USERS]!];
    const room = await one.createRoom({
      preset: 'private_chat',
      name: pick(),
      topic: pick(),
      invite: [other.id],
    });
    await other.join(room);
    values.push({ room_id: room }, {});
    for (let j = 0; j < MESSAGES_A_ROOM; j++) {
      const body = pick();
      clock.advanceTo(clock.monotonic() + random.integer(PAUSE_MS));
      const id = await (random.integer(2) === 0 ? one : other).say(room, body);
      values.push({ event_id: id }, { msgtype: 'm.text', body });
      if (random.integer(6) === 0) {
        const relation: JsonObject = { 'm.in_reply_to': { event_id: id } };
        values.push({ msgtype: 'm.text', body: pick(), 'm.relates_to': relation });
        values.push({ 'm.relates_to': { rel_type: 'm.annotation', event_id: id, key: '👍' } });
      }
    }
    await one.syncOnce();
    for (const event of one.timelines.get(room) ?? []) values.push({ ...event });
  }
}

/** The PDUs as the server has stored them. */
function storedPdus(path: string): JsonValue[] {
  const database = new Sqlite(path, { readonly: true });
  const rows = database.prepare<[], { json: string }>('SELECT json FROM events ORDER BY id').all();
  database.close();
  return rows.map(({ json }) => JSON.parse(json) as JsonValue);
}

/** The same with the users and the server under other names. */
function elsewhere(value: JsonValue, random: Random): JsonValue {
  const host = HOSTS[random.integer(HOSTS.length)]!;
  const shift = random.integer(NAMES.length);
  const text = JSON.stringify(value)
    .replaceAll(SERVER, host)
    .replace(/@(\w+):/g, (_, name: string) => `@${NAMES[(NAMES.indexOf(name) + shift) % NAMES.length]}:`);
  return JSON.parse(text) as JsonValue;
}
