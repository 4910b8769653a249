import { join } from 'node:path';
import { seededRandom } from '../../src/base/random.ts';
import { type Millis, sleep, systemClock } from '../../src/base/time.ts';
import { freePort } from '../free_port.ts';
import { RavineProcess } from '../interop/ravine_process.ts';
import type { RecordLedger } from './record_ledger.ts';
import { RecordProxy } from './record_proxy.ts';

/*
 *   alpha (a process, real files) ──UDP── the proxy ──UDP── bravo (a process, real files)
 *     │ HTTP                          writes a ledger          │ HTTP
 *   alice says 0, 1, 2 ...                                   bob says 0, 1, 2 ...
 *
 * In each run one of the processes is killed at a random moment and started again on what its files hold.
 */

const NAMES = ['alpha', 'bravo'] as const;
type Name = (typeof NAMES)[number];

/** Until a run's victim dies, and until it is started again, at most. */
const LONGEST_RUN_MS: Millis = 400;
const LONGEST_PAUSE_MS: Millis = 100;
/** For a message of each side to get to the other after a start. */
const HEAL_MS: Millis = 30_000;
const LOOK_AGAIN_MS: Millis = 50;
const BETWEEN_MESSAGES_MS: Millis = 15;
const PAGE = 100;

export interface CrashReport {
  readonly acknowledged: number;
  /** Messages that were acknowledged and are not at both servers. */
  readonly lost: readonly string[];
  /** Messages that a server has more than once. */
  readonly twice: readonly string[];
  readonly ledger: RecordLedger;
  /** Handshake messages and hints since the first kill. */
  readonly handshakes: number;
  /** From a start until both sides have heard from each other. */
  readonly slowestHealMs: Millis;
}

/** One server and its user, who talks until told to stop. */
class Speaker {
  readonly name: Name;
  readonly process: RavineProcess;
  /** What the server has acknowledged. */
  readonly acknowledged: string[] = [];
  #token = '';
  #room = '';
  #talking = true;

  constructor(name: Name, process: RavineProcess) {
    this.name = name;
    this.process = process;
  }

  async start(): Promise<void> {
    await this.process.start();
    this.#token = await this.process.register(this.name === 'alpha' ? 'alice' : 'bob');
  }

  async createRoom(): Promise<string> {
    const body = { preset: 'public_chat', creation_content: { 'm.federate': true } };
    const { json } = await this.process.call('POST', '/createRoom', this.#token, body);
    this.#room = String(json.room_id);
    return this.#room;
  }

  async join(room: string): Promise<void> {
    this.#room = room;
    const path = `/join/${encodeURIComponent(room)}?via=alpha.test`;
    const { status, json } = await this.process.call('POST', path, this.#token, {});
    if (status !== 200) throw new Error(`join: ${JSON.stringify(json)}`);
  }

  /** Says one thing after another, each as often as it takes until it is acknowledged. */
  async talk(): Promise<void> {
    for (let i = 0; this.#talking; i++) {
      const body = `${this.name} ${i}`;
      const path = `/rooms/${encodeURIComponent(this.#room)}/send/m.room.message/${i}`;
      const content = { msgtype: 'm.text', body };
      for (;;) {
        const answer = await this.process.call('PUT', path, this.#token, content).catch(() => undefined);
        await sleep(systemClock, BETWEEN_MESSAGES_MS);
        if (answer?.status === 200) break;
        if (answer !== undefined) throw new Error(`send: ${JSON.stringify(answer.json)}`);
      }
      this.acknowledged.push(body);
    }
  }

  stopTalking(): void {
    this.#talking = false;
  }

  /** The bodies of all messages that the server has, or of so many of the newest. */
  async messages(limit = Number.POSITIVE_INFINITY): Promise<string[]> {
    const bodies: string[] = [];
    let from = '';
    do {
      const path = `/rooms/${encodeURIComponent(this.#room)}/messages?dir=b&limit=${PAGE}${from}`;
      const { json } = await this.process.call('GET', path, this.#token);
      for (const { type, content } of json.chunk as { type: string; content: { body?: string } }[])
        if (type === 'm.room.message') bodies.push(String(content.body));
      from = json.end === undefined ? '' : `&from=${encodeURIComponent(String(json.end))}`;
    } while (from !== '' && bodies.length < limit);
    return bodies;
  }
}

/** Waits until `condition` holds; how long that took. */
async function until(condition: () => Promise<boolean>, what: string): Promise<Millis> {
  const start = systemClock.monotonic();
  while (!(await condition())) {
    if (systemClock.monotonic() - start > HEAL_MS) throw new Error(`waited in vain until ${what}`);
    await sleep(systemClock, LOOK_AGAIN_MS);
  }
  return systemClock.monotonic() - start;
}

/** The highest number that `name` has said in these messages; -1: none. */
const newestOf = (name: Name, bodies: readonly string[]): number =>
  bodies.reduce((newest, body) => {
    const [who, number] = body.split(' ');
    return who === name ? Math.max(newest, Number(number)) : newest;
  }, -1);

/** Waits until each side has something that the other was told after now. */
async function healed(alpha: Speaker, bravo: Speaker): Promise<Millis> {
  const arrived = async (from: Speaker, to: Speaker): Promise<Millis> => {
    const wanted = from.acknowledged.length + 1;
    return until(
      async () => newestOf(from.name, await to.messages(PAGE)) >= wanted,
      `message ${wanted} of ${from.name} got through`,
    );
  };
  const took = await Promise.all([arrived(alpha, bravo), arrived(bravo, alpha)]);
  return Math.max(...took);
}

/**
 * Kills and starts `runs` times one of two servers that talk through a pipe, and compares what they have in the end with
 * what they have acknowledged.
 * @param folder an empty one
 * @param progress is called after each run
 */
export async function pipeCrashes(options: {
  readonly runs: number;
  readonly seed: number;
  readonly folder: string;
  readonly progress?: (run: number, victim: Name, healedMs: Millis) => void;
}): Promise<CrashReport> {
  const { runs, seed, folder, progress } = options;
  const random = seededRandom(seed);
  const ports = { alpha: await freePort('udp'), bravo: await freePort('udp') };
  const proxy = await RecordProxy.open(NAMES.map((name) => [name, ports[name]]));
  const speakerOf = (name: Name, other: Name): Speaker => {
    const address = `ravine://127.0.0.1:${proxy.portFor(name)}`;
    const peers = [{ server_name: `${other}.test`, address, trust: 'tofu' } as const];
    const config = {
      server_name: `${name}.test`,
      coap: { port: ports[name] },
      federation: { trust: 'tofu', peers },
      log: { level: 'warn' },
    } as const;
    return new Speaker(name, new RavineProcess(join(folder, name), config));
  };
  const [alpha, bravo] = [speakerOf('alpha', 'bravo'), speakerOf('bravo', 'alpha')];
  const talks: Promise<void>[] = [];
  try {
    await Promise.all([alpha.start(), bravo.start()]);
    await bravo.join(await alpha.createRoom());
    talks.push(alpha.talk(), bravo.talk());
    // A talk that fails is found by the end of this; until then it must not be an unhandled rejection.
    for (const talk of talks) talk.catch(() => undefined);
    let slowestHealMs = await healed(alpha, bravo);
    const { handshake, hints } = proxy.ledger.counts;
    for (let run = 1; run <= runs; run++) {
      const victim = random.integer(2) === 0 ? alpha : bravo;
      await sleep(systemClock, random.integer(LONGEST_RUN_MS));
      await victim.process.end('SIGKILL');
      await sleep(systemClock, random.integer(LONGEST_PAUSE_MS));
      await victim.process.start();
      proxy.replay(victim.name);
      const healedMs = await healed(alpha, bravo);
      slowestHealMs = Math.max(slowestHealMs, healedMs);
      progress?.(run, victim.name, healedMs);
    }
    for (const speaker of [alpha, bravo]) speaker.stopTalking();
    await Promise.all(talks);
    const acknowledged = [...alpha.acknowledged, ...bravo.acknowledged];
    const missing = async (): Promise<string[]> => {
      const there = await Promise.all([alpha.messages(), bravo.messages()]);
      return there.flatMap((bodies, i) => {
        const set = new Set(bodies);
        return acknowledged.filter((body) => !set.has(body)).map((body) => `${body} at ${NAMES[i]}`);
      });
    };
    await until(async () => (await missing()).length === 0, 'everything was there').catch(() => undefined);
    const all = await Promise.all([alpha.messages(), bravo.messages()]);
    const { counts } = proxy.ledger;
    return {
      acknowledged: acknowledged.length,
      lost: await missing(),
      twice: all.flatMap((bodies) => bodies.filter((body, i) => bodies.indexOf(body) !== i)),
      ledger: proxy.ledger,
      handshakes: counts.handshake + counts.hints - handshake - hints,
      slowestHealMs,
    };
  } finally {
    for (const speaker of [alpha, bravo]) speaker.stopTalking();
    await Promise.allSettled(talks);
    await Promise.all([alpha.process.end('SIGKILL'), bravo.process.end('SIGKILL')]);
    await proxy.close();
  }
}
