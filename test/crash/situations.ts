import { rmSync } from 'node:fs';
import { join } from 'node:path';
import Connection from 'better-sqlite3';
import { type Millis, sleep, systemClock } from '../../src/base/time.ts';
import type { RecordProxy } from './record_proxy.ts';
import { heardBy, type Speaker } from './speaker.ts';

/** What happens at a pause of both speakers: acknowledgements and what was still on its way. */
const QUIET_MS: Millis = 300;
/** Longer than it takes until a first copy of a request goes out (RFC 7252, section 4.8: three seconds at most). */
const DEAF_MS: Millis = 5_000;
/** More than go in one transaction. */
const EVENTS_MISSED = 60;
/** Longer than any session is used. */
const TOO_OLD_MS: Millis = 30 * 86_400_000;
const REPLAYS = 5;

const ERASE_SESSIONS = 'DELETE FROM pipe_sessions';
const AGE_SESSIONS = `UPDATE pipe_sessions SET created = created - ${TOO_OLD_MS}`;

/** One playing of a situation. Each of its steps rejects once the playing is over. */
export class Scene {
  readonly actor: Speaker;
  readonly other: Speaker;
  readonly proxy: RecordProxy;
  readonly #folder: string;
  readonly #end = new AbortController();

  /** @param folder in which each server has one with its name */
  constructor(actor: Speaker, other: Speaker, proxy: RecordProxy, folder: string) {
    this.actor = actor;
    this.other = other;
    this.proxy = proxy;
    this.#folder = folder;
  }

  /** What is still going on does nothing more; both talk again, and hear each other. */
  end(): void {
    this.#end.abort();
    this.proxy.deafen(undefined);
    for (const speaker of [this.actor, this.other]) speaker.isQuiet = false;
  }

  async wait(ms: Millis): Promise<void> {
    await sleep(systemClock, ms, this.#end.signal);
    this.#end.signal.throwIfAborted();
  }

  pause(): Promise<void> {
    return this.wait(QUIET_MS);
  }

  /** Waits until `to` has something that `from` was told after now. */
  async heard(from: Speaker, to: Speaker): Promise<void> {
    await heardBy(from, to, this.#end.signal);
  }

  /** Waits until each side has. */
  async heal(): Promise<void> {
    await Promise.all([this.heard(this.actor, this.other), this.heard(this.other, this.actor)]);
  }

  async silence(...speakers: readonly Speaker[]): Promise<void> {
    for (const speaker of speakers) speaker.isQuiet = true;
    await this.pause();
  }

  /** Has somebody who was quiet say one thing, which gets through. */
  async speakOnce(speaker: Speaker, listener: Speaker): Promise<void> {
    const { length } = speaker.acknowledged;
    const heard = this.heard(speaker, listener);
    const said = async (): Promise<void> => {
      speaker.isQuiet = false;
      while (speaker.acknowledged.length === length) await this.wait(1);
      speaker.isQuiet = true;
    };
    await Promise.all([heard, said()]);
  }

  killActor(): Promise<void> {
    return this.actor.process.end('SIGKILL');
  }

  /** Starts the other one again on sessions that are changed. */
  async startOther(sql: string): Promise<void> {
    this.#end.signal.throwIfAborted();
    await this.other.process.end('SIGKILL');
    this.change(this.other, sql);
    await this.other.process.start();
  }

  /** Changes the sessions of a server that does not run. */
  change({ name }: Speaker, sql: string): void {
    const connection = new Connection(join(this.#folder, name, 'data', 'ravine.db'));
    connection.exec(sql);
    connection.close();
  }

  /** Lets the ended actor live on for a while, and takes its sessions back to what they were before. */
  async goBack(): Promise<void> {
    const older = join(this.#folder, 'older.db');
    rmSync(older, { force: true });
    const attached = `ATTACH '${older}' AS older;`;
    this.change(this.actor, `${attached} CREATE TABLE older.kept AS SELECT * FROM pipe_sessions`);
    await this.actor.process.start();
    await this.heal();
    await this.killActor();
    const restore = `${ERASE_SESSIONS}; INSERT INTO pipe_sessions SELECT * FROM older.kept`;
    this.change(this.actor, `${attached} ${restore}`);
    this.proxy.ledger.goesBack(this.actor.name);
  }
}

export interface Situation {
  /** More options of the actor's process. */
  readonly options?: readonly string[];
  /** Ends the actor's process and has everything as that is to find it. */
  prepare(scene: Scene): Promise<void>;
  /** What happens once it has been started. */
  perform(scene: Scene): Promise<void>;
}

const killed = (scene: Scene): Promise<void> => scene.killActor();

/** What the victim finds when it is started. */
export const SITUATIONS = {
  /** Sessions that go on. Both talk and run errands. */
  'in a session': {
    prepare: killed,
    async perform(scene) {
      const { actor, other } = scene;
      await actor.errands(other);
      await other.errands(actor);
      // Behind everything that the errands have to tell.
      await scene.heal();
    },
  },
  /** What it is sent takes long to be stored: answers come separately, behind an empty acknowledgement. */
  'has a slow disk': {
    options: ['--slow', 'receiver once'],
    prepare: killed,
    async perform(scene) {
      // What comes first is there before it has been answered, and what comes next only after that.
      await scene.heard(scene.other, scene.actor);
      await scene.heard(scene.other, scene.actor);
      await scene.pause();
    },
  },
  /** None on either side, and it talks first (XX). */
  calls: {
    async prepare(scene) {
      await scene.silence(scene.other);
      await scene.killActor();
      scene.change(scene.actor, ERASE_SESSIONS);
      await scene.startOther(ERASE_SESSIONS);
    },
    async perform(scene) {
      await scene.heard(scene.actor, scene.other);
      await scene.pause();
    },
  },
  /** The same, and the other talks first. */
  'is called': {
    async prepare(scene) {
      await scene.silence(scene.actor);
      await scene.killActor();
      scene.change(scene.actor, ERASE_SESSIONS);
      await scene.startOther(ERASE_SESSIONS);
    },
    async perform(scene) {
      await scene.heard(scene.other, scene.actor);
      await scene.pause();
    },
  },
  /** Its own are gone; the other goes on in them, and then calls whom it knows (IK). */
  'has lost its sessions': {
    async prepare(scene) {
      await scene.silence(scene.actor);
      await scene.killActor();
      scene.change(scene.actor, ERASE_SESSIONS);
    },
    async perform(scene) {
      await scene.heard(scene.other, scene.actor);
      await scene.pause();
    },
  },
  /** The same with the roles changed, after a while. */
  'is forgotten': {
    prepare: killed,
    async perform(scene) {
      await scene.heal();
      await scene.silence(scene.other);
      await scene.startOther(ERASE_SESSIONS);
      await scene.heard(scene.actor, scene.other);
      await scene.pause();
    },
  },
  /** Its sessions are those of an older disk, which the other notices. */
  'goes back': {
    async prepare(scene) {
      await scene.killActor();
      await scene.goBack();
    },
    async perform(scene) {
      await scene.heal();
      await scene.pause();
    },
  },
  /** Nothing reaches it for a while, so that it repeats what it has said. */
  'hears nothing': {
    prepare: killed,
    async perform(scene) {
      await scene.heal();
      scene.proxy.deafen(scene.actor.name);
      await scene.wait(DEAF_MS);
      scene.proxy.deafen(undefined);
      await scene.heal();
    },
  },
  /** Somebody sends it what was meant for the process before it. */
  'is told old things': {
    async prepare(scene) {
      await scene.silence(scene.actor, scene.other);
      await scene.killActor();
    },
    async perform(scene) {
      for (let i = 0; i < REPLAYS; i++) {
        scene.proxy.replay(scene.actor.name);
        await scene.pause();
      }
    },
  },
  /** It has not been there while much was said. */
  'was away': {
    async prepare(scene) {
      await scene.killActor();
      await scene.other.fill(EVENTS_MISSED);
    },
    async perform(scene) {
      await scene.heard(scene.other, scene.actor);
      await scene.pause();
    },
  },
  /** It finds a session that is too old, and replaces it (IK). */
  'has an old session': {
    async prepare(scene) {
      await scene.silence(scene.actor, scene.other);
      await scene.killActor();
      scene.change(scene.actor, AGE_SESSIONS);
    },
    async perform(scene) {
      await scene.speakOnce(scene.actor, scene.other);
      await scene.pause();
    },
  },
  /** The other finds one. */
  'is in an old session': {
    async prepare(scene) {
      await scene.silence(scene.actor, scene.other);
      await scene.startOther(AGE_SESSIONS);
      await scene.killActor();
    },
    async perform(scene) {
      await scene.speakOnce(scene.other, scene.actor);
      await scene.pause();
    },
  },
} satisfies Readonly<Record<string, Situation>>;

export type SituationName = keyof typeof SITUATIONS;
export const SITUATION_NAMES = Object.keys(SITUATIONS) as readonly SituationName[];
