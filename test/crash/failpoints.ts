import { join, resolve } from 'node:path';
import { type Millis, sleep, systemClock } from '../../src/base/time.ts';
import { freePort } from '../free_port.ts';
import { RavineProcess } from '../interop/ravine_process.ts';
import type { RecordLedger } from './record_ledger.ts';
import { RecordProxy } from './record_proxy.ts';
import { Scene, SITUATION_NAMES, SITUATIONS, type Situation, type SituationName } from './situations.ts';
import { compared, configOf, healed, NAMES, type Name, Speaker } from './speaker.ts';

/*
 * The same two servers and the same proxy as in pipe_crashes.ts. Here the victim kills itself at a boundary that it is told:
 * before and after each commit, before and after each datagram (boundaries.ts). A first pass over all situations writes down
 * which boundaries there are; each of them is a case then.
 */

const SERVER = [process.execPath, resolve(import.meta.dirname, 'server.ts')] as const;

export interface FailpointCase {
  readonly victim: Name;
  readonly situation: SituationName;
  readonly boundary: string;
  /** Others that have come by it, at least once. */
  readonly also?: readonly SituationName[];
}

export interface FailpointReport {
  readonly cases: readonly (FailpointCase & { readonly hit: boolean; readonly healedMs: Millis })[];
  readonly acknowledged: number;
  readonly lost: readonly string[];
  readonly twice: readonly string[];
  readonly ledger: RecordLedger;
}

/** What each conversation has that is worth the name: a run in which neither side died there has shown nothing. */
export const ESSENTIAL: readonly string[] = [
  ...['pipe_sessions commit', 'room_writer commit', 'receiver once', 'sender attempt', 'peers judge'].flatMap(
    (who) => ['before BEGIN', 'before COMMIT', 'after COMMIT'].map((when) => `${when} ${who}`),
  ),
  ...[
    'XX1',
    'XX2',
    'XX3',
    'IK1',
    'IK2',
    'hint',
    'ask',
    'confirm',
    'started anew',
    'data CON PUT',
    'data CON PUT block1',
    'data copy',
    'data ACK',
    'data ACK 2.04',
    'data CON 2.04',
  ].flatMap((label) => ['before send', 'after send'].map((when) => `${when} ${label}`)),
];

const BETWEEN_MESSAGES_MS: Millis = 150;
/** For a boundary to be reached, in each attempt. */
const REACH_MS: Millis = 90_000;
const ATTEMPTS = 3;
/** For what a process that dies has said to be read. */
const LAST_WORDS_MS: Millis = 5_000;
/** Of a server's output, in a message about a failure. */
const SAID_LENGTH = 2_000;

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
  only = '',
  progress,
}: {
  readonly folder: string;
  readonly cases?: readonly FailpointCase[];
  /** Of those of the first pass, only the ones whose boundary has this in its name. */
  readonly only?: string;
  readonly progress?: (line: string) => void;
}): Promise<FailpointReport> {
  const theatre = await Theatre.open(folder);
  try {
    const all = (cases ?? (await everyCase(theatre, progress))).filter(({ boundary }) =>
      boundary.includes(only),
    );
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
  } catch (error) {
    throw theatre.failure(error);
  } finally {
    await theatre.close();
  }
}

/**
 * All boundaries that either side comes to, each in the first situation in which it does so each time, or where there is
 * none in the first in which it has. Every situation is played twice, to tell the one from the other.
 */
async function everyCase(
  theatre: Theatre,
  progress: (line: string) => void = () => undefined,
): Promise<FailpointCase[]> {
  const cases = new Map<string, FailpointCase & { also: SituationName[]; byChance: boolean }>();
  for (const victim of NAMES) {
    for (const situation of SITUATION_NAMES) {
      const first = await theatre.play({ victim, situation });
      await theatre.restart(victim);
      const second = await theatre.play({ victim, situation });
      await theatre.restart(victim);
      const known = cases.size;
      for (const boundary of new Set([...first, ...second])) {
        const byChance = !(first.includes(boundary) && second.includes(boundary));
        const name = `${victim} ${boundary}`;
        const before = cases.get(name);
        if (before === undefined || (before.byChance && !byChance)) {
          const also = before === undefined ? [] : [...before.also, before.situation];
          cases.set(name, { victim, situation, boundary, also, byChance });
        } else {
          before.also.push(situation);
        }
      }
      progress(`${victim} ${situation}: ${second.length} boundaries, ${cases.size - known} of them new`);
    }
  }
  return [...cases.values()];
}

/** What depends on the moment is tried more than once, and wherever it was seen. */
async function isHit(
  theatre: Theatre,
  { victim, situation, boundary, also = [] }: FailpointCase,
): Promise<boolean> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    for (const place of [situation, ...also])
      if ((await theatre.play({ victim, situation: place }, boundary)).includes(boundary)) return true;
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
      throw theatre.failure(error);
    }
  }

  /** What went wrong, and what the servers said last. */
  failure(cause: unknown): Error {
    const said = NAMES.map((name) => `${name}: ${this.speakers[name].process.output.slice(-SAID_LENGTH)}`);
    return new Error(`the run ended early\n${said.join('\n')}`, { cause });
  }

  heal(): Promise<Millis> {
    return healed(this.speakers.alpha, this.speakers.bravo);
  }

  /** Plays a situation until the victim has died or everything in it has happened. @returns the boundaries that were reached */
  async play(
    { victim, situation }: Pick<FailpointCase, 'victim' | 'situation'>,
    dieAt?: string,
  ): Promise<readonly string[]> {
    const { options = [], prepare, perform }: Situation = SITUATIONS[situation];
    const { process } = this.speakers[victim];
    const scene = new Scene(this.speakers[victim], this.speakers[otherOf(victim)], this.proxy, this.#folder);
    await prepare(scene);
    const before = process.output.length;
    // It may die before it is up.
    const isUp = await process.start(...(dieAt === undefined ? [] : ['--die-at', dieAt]), ...options).then(
      () => true,
      () => false,
    );
    const over = new AbortController();
    if (isUp) {
      const limit = sleep(systemClock, REACH_MS, over.signal);
      await Promise.race([process.ended(), Promise.allSettled([perform(scene)]), limit]);
      // Where the actor dies the scene fails as well, perhaps before what it has said last has been read.
      if (dieAt !== undefined)
        await Promise.race([process.ended(), sleep(systemClock, LAST_WORDS_MS, over.signal)]);
    } else {
      await process.ended();
    }
    over.abort();
    scene.end();
    return [...process.output.slice(before).matchAll(/^(boundary|dies): (.*)$/gm)]
      .filter(([, kind]) => kind === (dieAt === undefined ? 'boundary' : 'dies'))
      .map(([, , boundary]) => boundary!);
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
