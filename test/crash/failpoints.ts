import { rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import Connection from 'better-sqlite3';
import { type Millis, sleep, systemClock } from '../../src/base/time.ts';
import { freePort } from '../free_port.ts';
import { RavineProcess } from '../interop/ravine_process.ts';
import type { RecordLedger } from './record_ledger.ts';
import { RecordProxy } from './record_proxy.ts';
import { compared, configOf, healed, heardBy, NAMES, type Name, Speaker } from './speaker.ts';

/*
 * The same two servers and the same proxy as in pipe_crashes.ts. Here the victim kills itself at a boundary that it is told:
 * before and after each commit, before and after each datagram (boundaries.ts). A first pass over all situations writes down
 * which boundaries there are; each of them is a case then.
 */

const SERVER = [process.execPath, resolve(import.meta.dirname, 'server.ts')] as const;

/** What the victim finds when it is started. */
const SITUATIONS = [
  /** Sessions that go on. Both talk and run errands. */
  'in a session',
  /** None on either side; the victim talks first (XX), or the other. */
  'calls',
  'is called',
  /** Its own are gone; the other goes on in them, and then calls whom it knows (IK). */
  'has lost its sessions',
  /** The same with the roles changed, after a while. */
  'is forgotten',
  /** Its sessions are those of an older disk, which the other notices. */
  'goes back',
] as const;
export type Situation = (typeof SITUATIONS)[number];

export interface FailpointCase {
  readonly victim: Name;
  readonly situation: Situation;
  readonly boundary: string;
}

export interface FailpointReport {
  readonly cases: readonly (FailpointCase & { readonly hit: boolean; readonly healedMs: Millis })[];
  readonly acknowledged: number;
  readonly lost: readonly string[];
  readonly twice: readonly string[];
  readonly ledger: RecordLedger;
}

const BETWEEN_MESSAGES_MS: Millis = 150;
/** For a boundary to be reached, in each attempt. */
const REACH_MS: Millis = 20_000;
const ATTEMPTS = 3;
/** What happens at a pause of both speakers: acknowledgements and what was still on its way. */
const QUIET_MS: Millis = 300;

const otherOf = (name: Name): Name => (name === 'alpha' ? 'bravo' : 'alpha');

/**
 * Kills one of two servers that talk at each boundary that their conversation has, or at each of some, starts it
 * again, and compares what they have in the end with what they have acknowledged.
 * @param folder an empty one
 * @param cases what to do; left out: everything that a first pass over all situations comes by
 */
export async function failpoints({
  folder,
  cases,
  progress,
}: {
  readonly folder: string;
  readonly cases?: readonly FailpointCase[];
  readonly progress?: (line: string) => void;
}): Promise<FailpointReport> {
  const theatre = await Theatre.open(folder);
  try {
    const all = cases ?? (await everyCase(theatre, progress));
    const done: FailpointReport['cases'][number][] = [];
    for (const one of all) {
      const hit = await isHit(theatre, one);
      const healedMs = await theatre.restart(one.victim);
      done.push({ ...one, hit, healedMs });
      const outcome = hit ? `healed in ${Math.round(healedMs)} ms` : 'NOT REACHED';
      progress?.(`${done.length}/${all.length}  ${one.victim} ${one.situation}: ${one.boundary}: ${outcome}`);
    }
    await theatre.finish();
    const { alpha, bravo } = theatre.speakers;
    return {
      cases: done,
      acknowledged: alpha.acknowledged.length + bravo.acknowledged.length,
      ...(await compared(alpha, bravo)),
      ledger: theatre.proxy.ledger,
    };
  } finally {
    await theatre.close();
  }
}

/** All boundaries that either side comes to, each in the first situation in which it does. */
async function everyCase(
  theatre: Theatre,
  progress: (line: string) => void = () => undefined,
): Promise<FailpointCase[]> {
  const cases: FailpointCase[] = [];
  for (const victim of NAMES) {
    const seen = new Set<string>();
    for (const situation of SITUATIONS) {
      const reached = await theatre.play({ victim, situation });
      await theatre.heal();
      const found = reached.filter((boundary) => !seen.has(boundary));
      for (const boundary of found) {
        seen.add(boundary);
        cases.push({ victim, situation, boundary });
      }
      progress(`${victim} ${situation}: ${reached.length} boundaries, ${found.length} of them new`);
    }
  }
  return cases;
}

/** What depends on the moment is tried more than once. */
async function isHit(theatre: Theatre, { victim, situation, boundary }: FailpointCase): Promise<boolean> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    if ((await theatre.play({ victim, situation }, boundary)).includes(boundary)) return true;
  }
  return false;
}

/** Two servers that talk, and one after the other is killed. */
class Theatre {
  readonly proxy: RecordProxy;
  readonly speakers: Readonly<Record<Name, Speaker>>;
  readonly #folder: string;
  readonly #talks: Promise<void>[] = [];

  private constructor(folder: string, proxy: RecordProxy, ports: Readonly<Record<Name, number>>) {
    this.#folder = folder;
    this.proxy = proxy;
    const speakerOf = (name: Name): Speaker => {
      const config = configOf(name, otherOf(name), ports, proxy);
      return new Speaker(name, new RavineProcess(join(folder, name), config, SERVER));
    };
    this.speakers = { alpha: speakerOf('alpha'), bravo: speakerOf('bravo') };
  }

  static async open(folder: string): Promise<Theatre> {
    const ports = { alpha: await freePort('udp'), bravo: await freePort('udp') };
    const proxy = await RecordProxy.open(NAMES.map((name) => [name, ports[name]]));
    const theatre = new Theatre(folder, proxy, ports);
    const { alpha, bravo } = theatre.speakers;
    try {
      await Promise.all([alpha.start(), bravo.start()]);
      await bravo.join(await alpha.createRoom());
      for (const speaker of [alpha, bravo]) {
        const talk = speaker.talk(BETWEEN_MESSAGES_MS);
        talk.catch(() => undefined);
        theatre.#talks.push(talk);
      }
      await theatre.heal();
      return theatre;
    } catch (error) {
      await theatre.close();
      throw error;
    }
  }

  heal(): Promise<Millis> {
    return healed(this.speakers.alpha, this.speakers.bravo);
  }

  /** Plays a situation until the victim has died or everything in it has happened. @returns the boundaries that were reached */
  async play(
    { victim, situation }: Omit<FailpointCase, 'boundary'>,
    dieAt?: string,
  ): Promise<readonly string[]> {
    const [actor, other] = [this.speakers[victim], this.speakers[otherOf(victim)]];
    await this.#prepare(actor, other, situation);
    const before = actor.process.output.length;
    // It may die before it is up.
    const isUp = await actor.process.start(...(dieAt === undefined ? [] : ['--die-at', dieAt])).then(
      () => true,
      () => false,
    );
    if (isUp) {
      const script = this.#perform(actor, other, situation);
      await Promise.race([actor.process.ended(), Promise.allSettled([script]), sleep(systemClock, REACH_MS)]);
    }
    for (const speaker of [actor, other]) speaker.isQuiet = false;
    return [...actor.process.output.slice(before).matchAll(/^(boundary|dies): (.*)$/gm)]
      .filter(([, kind]) => kind === (dieAt === undefined ? 'boundary' : 'dies'))
      .map(([, , boundary]) => boundary!);
  }

  /** Ends the victim and has everything as it is to find it. */
  async #prepare(actor: Speaker, other: Speaker, situation: Situation): Promise<void> {
    actor.isQuiet = situation === 'is called' || situation === 'has lost its sessions';
    other.isQuiet = situation === 'calls';
    if (actor.isQuiet || other.isQuiet) await sleep(systemClock, QUIET_MS);
    const isFresh = situation === 'calls' || situation === 'is called';
    await actor.process.end('SIGKILL');
    if (isFresh || situation === 'has lost its sessions') this.#eraseSessions(actor.name);
    if (isFresh) await this.#startForgetful(other);
    if (situation === 'goes back') await this.#goBack(actor);
  }

  /** Lets an ended victim live on for a while, and takes its sessions back to what they were before. */
  async #goBack({ name, process }: Speaker): Promise<void> {
    const older = join(this.#folder, 'older.db');
    rmSync(older, { force: true });
    const attached = `ATTACH '${older}' AS older;`;
    this.#change(name, `${attached} CREATE TABLE older.kept AS SELECT * FROM pipe_sessions`);
    await process.start();
    await this.heal();
    await process.end('SIGKILL');
    const restore = 'DELETE FROM pipe_sessions; INSERT INTO pipe_sessions SELECT * FROM older.kept';
    this.#change(name, `${attached} ${restore}`);
    this.proxy.ledger.goesBack(name);
  }

  async #perform(actor: Speaker, other: Speaker, situation: Situation): Promise<void> {
    if (situation === 'goes back') {
      await this.heal();
    } else if (situation === 'in a session') {
      await actor.errands(other);
      await other.errands(actor);
    } else if (situation === 'is forgotten') {
      await this.heal();
      other.isQuiet = true;
      await sleep(systemClock, QUIET_MS);
      await this.#startForgetful(other);
      await heardBy(actor, other);
    } else {
      await (situation === 'calls' ? heardBy(actor, other) : heardBy(other, actor));
    }
    await sleep(systemClock, QUIET_MS);
  }

  async #startForgetful({ name, process }: Speaker): Promise<void> {
    await process.end('SIGKILL');
    this.#eraseSessions(name);
    await process.start();
  }

  #eraseSessions(name: Name): void {
    this.#change(name, 'DELETE FROM pipe_sessions');
  }

  #change(name: Name, sql: string): void {
    const connection = new Connection(join(this.#folder, name, 'data', 'ravine.db'));
    connection.exec(sql);
    connection.close();
  }

  /** Starts the victim again on what its files hold. @returns how long it took until each had heard from the other */
  async restart(victim: Name): Promise<Millis> {
    const { process } = this.speakers[victim];
    await process.end('SIGKILL');
    await process.start();
    this.proxy.replay(victim);
    return this.heal();
  }

  async finish(): Promise<void> {
    for (const name of NAMES) this.speakers[name].stopTalking();
    await Promise.all(this.#talks);
  }

  async close(): Promise<void> {
    for (const name of NAMES) this.speakers[name].stopTalking();
    await Promise.allSettled(this.#talks);
    for (const name of NAMES) await this.speakers[name].process.end('SIGKILL');
    await this.proxy.close();
  }
}
