import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { base64 } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { bad } from '../../src/base/result.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import type { Coder } from '../../src/compact/container.ts';
import { type Form, MAX_MESSAGE_BYTES } from '../../src/compact/mixer/contexts.ts';
import { Model } from '../../src/compact/mixer/model.ts';
import { routeOf } from '../../src/compact/routes.ts';
import { Device } from '../../src/device/device.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD } from '../../src/link/link.ts';
import { SimulatedNetwork } from '../../src/link/simulated.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { MatrixUser } from '../../src/mesh/matrix_user.ts';
import { startEphemeral } from '../../src/server/ephemeral.ts';
import type { Homeserver } from '../../src/server/homeserver.ts';
import type { Line } from './corpus.ts';
import { eachOnce, HOSTS, NAMES } from './names.ts';
import type { Sample } from './samples.ts';
import { firstTables } from './tune.ts';

const PAIRS = 8;
const ROOMS_OF_PAIR = 3;
const MESSAGES_OF_ROOM = 40;
const LONGEST_PAUSE_MS = 3 * 60 * 1000;
const PATIENCE_MS = 24 * 60 * 60 * 1000;
const WAY = { rate: null, latency: 20, mtu: 1200 };
const KEY_BYTES = 32;
/** The shortest ciphertext of Megolm, and how much longer they are at most. */
const CIPHERTEXT_BYTES = 120;
const CIPHERTEXT_SPREAD = 200;

const SEND_ROUTE = routeOf('PUT', '/_matrix/federation/v1/send/1'.split('/'), false)!.number;

/** Which of the messages that say a line are kept: one, so that no line is predicted from its own copy. */
type Kept = 'client' | 'federation' | 'answers' | 'all';
const KEPT: readonly Kept[] = [
  'client',
  'client',
  'client',
  'federation',
  'federation',
  'federation',
  'answers',
];

/** In the place of a model: it notes what it is to code, and lets others do it. */
class Recorder extends Model {
  readonly samples: Sample[] = [];
  kept: Kept = 'all';
  #last = '';

  constructor() {
    const nothing = { read: () => false };
    super({ id: 1, tables: firstTables(new Uint16Array(0)), buckets: nothing });
  }

  override encode(message: Uint8Array, form: Form): undefined {
    const by = form !== 'request' ? 'answers' : message[0] === SEND_ROUTE ? 'federation' : 'client';
    const text = `${form} ${base64(message)}`;
    const isWanted = (this.kept === 'all' || this.kept === by) && text !== this.#last;
    if (isWanted && message.length <= MAX_MESSAGE_BYTES && (form === 'request' || saysMore(message)))
      this.samples.push({ bytes: message.slice(), form, worth: 'usual' });
    this.#last = text;
  }

  override coder(form: Form): Coder {
    return {
      id: this.id,
      encode: (message) => this.encode(message, form),
      decode: () => bad('nothing was coded by it'),
    };
  }
}

/** Whether an answer is more than an event's id or a check, which are random. */
const saysMore = (answer: Uint8Array): boolean =>
  answer.length >= LEAST_ANSWER_BYTES && !LITERAL_ANSWERS.includes(answer[0]!);
const LEAST_ANSWER_BYTES = 12;
const LITERAL_ANSWERS = [0x30, 0x31];

/**
 * What servers and clients pack for each other in sessions that are established, while people talk: sends of clients,
 * transactions, answers. Recorded from whole servers and clients in virtual time: the same each time.
 */
export async function recordTraffic(lines: readonly Line[]): Promise<Sample[]> {
  const random = seededRandom(30);
  const pick = eachOnce(lines, random);
  const samples: Sample[] = [];
  for (let i = 0; i < PAIRS; i++) {
    const recorder = new Recorder();
    await talk(recorder, i, pick, random);
    samples.push(...recorder.samples);
  }
  return samples;
}

async function talk(recorder: Recorder, number: number, pick: () => string, random: Random): Promise<void> {
  const time = new VirtualTime();
  const folder = mkdtempSync(join(tmpdir(), 'ravine-train-'));
  const network = new SimulatedNetwork({ clock: time.clock, random: seededRandom(40 + number) });
  const [here, there] = [HOSTS[number % HOSTS.length]!, HOSTS[(number + 3) % HOSTS.length]!];
  const profile = { rate: null, delay: WAY.latency, mtu: WAY.mtu, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
  for (const [a, b] of [
    [here, there],
    [here, 'client'],
  ] as const)
    network.connect(a, b, WAY);
  const until = <T>(outcome: Promise<T>): Promise<T> => time.until(outcome, PATIENCE_MS);
  const start = (name: string, other: string): Promise<Homeserver> =>
    until(
      startEphemeral({
        clock: time.clock,
        random: seededRandom(number * 100 + name.length),
        work: time.work,
        folder,
        link: network.join(name, profile),
        models: new Map([['large', recorder]]),
        config: {
          server_name: name,
          coap: { pipe: { models: 'large' } },
          federation: {
            trust: 'tofu',
            peers: [{ server_name: other, address: `ravine://${other}`, trust: 'tofu' }],
          },
        },
      }),
    );
  const servers = [await start(here, there), await start(there, here)] as const;
  const nameOf = (i: number): string => NAMES[(2 * number + i) % NAMES.length]!;
  const one = await until(MatrixUser.register(servers[0].app, nameOf(0)));
  const other = await until(MatrixUser.register(servers[1].app, nameOf(1)));
  const device = new Device({
    link: network.join('client', profile),
    clock: time.clock,
    random: seededRandom(50 + number),
    secret: random.bytes(KEY_BYTES),
    server: here as ServerName,
    address: here,
    trust: { decide: async () => ({ trusted: true }) },
    socket: { models: [recorder] },
  });
  await until(device.logIn(one.id, `password of ${nameOf(0)}`));
  let { next_batch: since } = await until(device.sync());
  const sync = async (): Promise<void> => {
    since = (await until(device.sync({ since: String(since) }))).next_batch;
  };
  for (let i = 0; i < ROOMS_OF_PAIR; i++) {
    recorder.kept = 'all';
    const room = await until(one.createRoom({ preset: 'private_chat', name: pick(), invite: [other.id] }));
    await until(other.join(room));
    await time.pass(random.integer(LONGEST_PAUSE_MS));
    await sync();
    const session = base64(random.bytes(KEY_BYTES));
    let last = '';
    for (let j = 0; j < MESSAGES_OF_ROOM; j++) {
      recorder.kept = KEPT[random.integer(KEPT.length)]!;
      // A line that would be kept of the other's client, which has none here, is the transaction.
      if (random.integer(3) > 0)
        last = await until(device.send(room, 'm.room.message', { msgtype: 'm.text', body: pick() }));
      else {
        if (recorder.kept === 'client') recorder.kept = 'federation';
        last = await until(other.say(room, pick()));
      }
      await time.pass(1000 + random.integer(LONGEST_PAUSE_MS));
      await sync();
      recorder.kept = 'all';
      const relation: JsonObject = { rel_type: 'm.annotation', event_id: last, key: '👍' };
      if (j % 8 === 3) await until(device.send(room, 'm.reaction', { 'm.relates_to': relation }));
      if (j % 8 === 5)
        await until(
          device.send(room, 'm.room.encrypted', {
            algorithm: 'm.megolm.v1.aes-sha2',
            ciphertext: base64(random.bytes(CIPHERTEXT_BYTES + random.integer(CIPHERTEXT_SPREAD))),
            session_id: j % 16 === 5 ? base64(random.bytes(KEY_BYTES)) : session,
          }),
        );
      if (j % 20 === 7)
        await until(
          device.send(room, 'm.room.message', {
            msgtype: 'm.text',
            body: pick(),
            'm.relates_to': { 'm.in_reply_to': { event_id: last } },
          }),
        );
      if (j % 8 < 4) await time.pass(1000 + random.integer(LONGEST_PAUSE_MS));
    }
  }
  await until(device.close());
  for (const server of servers) await until(server.stop());
  rmSync(folder, { recursive: true });
}
