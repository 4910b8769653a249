import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DICTIONARIES } from '../../src/compact/dictionary.ts';
import { PythonEnvironment } from './python_environment.ts';

const HERE = join(import.meta.dirname, 'pipe_peer');
const environment = new PythonEnvironment('pipe-1', join(HERE, 'requirements.txt'));

/** @returns why the peer cannot run here; undefined where it can. */
export const installPipePeer = (): Promise<string | undefined> => environment.install();

/** What the peer has counted. Keys as in peer.py and session.py. */
export interface PeerState {
  /** Such as `received kind 2`, `restarts of the peer`, `control 1`. */
  readonly counts: Readonly<Record<string, number>>;
  /** Of the session: `sent <code>` and `received <code>` for the lengths of packet numbers, `forged`, `repeated`. */
  readonly records: Readonly<Record<string, number>>;
  readonly next: number;
  readonly highest: number;
  /** Whether its salt is not confirmed. */
  readonly salted: boolean;
  /** Requests that it has answered. */
  readonly handled: readonly { readonly code: number; readonly target: string; readonly body: unknown }[];
  /** The reason in the close record that has come. */
  readonly closed: string | null;
}

export interface PeerAnswer {
  /** Such as `2.05`. */
  readonly code: string;
  readonly body: unknown;
}

/** A server that another program plays, which follows docs/protocol.md and shares no code with Ravine. */
export class PipePeer {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (line: Record<string, unknown>) => void>();
  readonly #ended: Promise<unknown>;
  #ids = 0;
  port = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = new Promise((done) => child.once('exit', done));
    child.stdin!.on('error', () => undefined);
  }

  /** @param folder for the dictionary, which the program takes as a file */
  static async start(name: string, folder: string): Promise<PipePeer> {
    const dictionary = join(folder, 'dictionary');
    writeFileSync(dictionary, DICTIONARIES[1]);
    const child = spawn(environment.python, [join(HERE, 'peer.py'), name, dictionary], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
    });
    const peer = new PipePeer(child);
    peer.port = await new Promise<number>((resolve, reject) => {
      child.once('exit', () => reject(new Error('the peer does not start')));
      createInterface({ input: child.stdout! }).on('line', (text) => {
        const line = JSON.parse(text) as Record<string, unknown>;
        if (typeof line.port === 'number') resolve(line.port);
        else peer.#waiting.get(Number(line.id))?.(line);
      });
    });
    return peer;
  }

  /**
   * Handshakes: XX, or IK with the server that is `known`, with a serial that is not the server's where that is `wrong
   * identity`. Offers `version` first.
   * @returns why it was refused, null where it was not; whether the server went on with XXfallback
   */
  async open(
    name: string,
    port: number,
    how: {
      readonly known?: boolean;
      readonly 'wrong identity'?: boolean;
      readonly version?: number;
    } = {},
  ): Promise<{ closed: string | null; fallback: boolean }> {
    const { closed, fallback } = await this.#order('open', { name, port, ...how });
    return { closed: closed as string | null, fallback: Boolean(fallback) };
  }

  /** Sends a request, `times` times one after another. @returns the last answer */
  async request(method: string, target: string, body?: object, times = 1): Promise<PeerAnswer> {
    const order = { method, target, times, ...(body && { body }) };
    const answer = await this.#order('request', order);
    return { code: String(answer.code), body: answer.body };
  }

  async state(): Promise<PeerState> {
    return (await this.#order('state')) as unknown as PeerState;
  }

  /**
   * Answers every request like that from now on; `tells`: whether it says what it has seen; `compact`: whether it offers compact
   * headers in XX.
   */
  async configure(what: {
    readonly answer?: readonly [status: number, body: object];
    readonly tells?: boolean;
    readonly compact?: boolean;
  }): Promise<void> {
    await this.#order('configure', what);
  }

  /** Forged copies of its last record, and that record again. @returns how many were sent */
  async forge(bit: number): Promise<number> {
    return Number((await this.#order('forge', { bit })).sent);
  }

  /** Begins so many handshakes that it does not go on with. */
  async flood(name: string, port: number, times: number): Promise<void> {
    await this.#order('flood', { name, port, times });
  }

  /** Goes on as after a start with its sessions on the disk. */
  async restart(): Promise<void> {
    await this.#order('restart');
  }

  /** Goes on as after a start without them; `peers`: it forgets who its peers are, too. */
  async forget(what: { readonly peers?: boolean } = {}): Promise<void> {
    await this.#order('forget', what);
  }

  async close(reason: string): Promise<void> {
    await this.#order('close', { reason });
  }

  async stop(): Promise<void> {
    this.#child.stdin!.end();
    await this.#ended;
  }

  #order(verb: string, arguments_: object = {}): Promise<Record<string, unknown>> {
    const id = this.#ids++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, (line) => {
        this.#waiting.delete(id);
        if (line.error === undefined) resolve(line);
        else reject(new Error(`${verb}: ${String(line.error)}`));
      });
      this.#child.stdin!.write(`${JSON.stringify({ id, do: verb, ...arguments_ })}\n`);
    });
  }
}
