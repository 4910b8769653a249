import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { PartialConfig } from '../../src/server/config.ts';
import { type Output, outputOf } from '../e2e/output.ts';

const BIN = resolve(import.meta.dirname, '../../bin/ravine.js');

export interface HttpAnswer {
  readonly status: number;
  readonly json: Record<string, unknown>;
}

export const SERVE = [process.execPath, BIN, 'serve'] as const;

/** `ravine serve`, a process of its own on real files, that can be killed and started again. */
export class RavineProcess {
  readonly #file: string;
  readonly #command: readonly [string, ...string[]];
  #child: ChildProcess | undefined;
  /** It does not outlive this process. */
  readonly #kill = (): unknown => this.#child?.kill('SIGKILL');
  #ended: Promise<void> = Promise.resolve();
  #output: Output | undefined;
  /** Of all starts. */
  #said = '';
  #url = '';

  /**
   * @param folder of the data and the configuration. HTTP listens on a port that the system chooses.
   * @param command another one than `ravine serve`, that says the same and takes the same option
   */
  constructor(folder: string, config: PartialConfig, command: readonly [string, ...string[]] = SERVE) {
    this.#command = command;
    mkdirSync(folder, { recursive: true });
    this.#file = join(folder, 'ravine.json');
    // Who tests goes as fast as it can.
    const limits = null;
    const http = { listen: [{ host: '127.0.0.1', port: 0 }] };
    // JSON is YAML as well.
    writeFileSync(
      this.#file,
      JSON.stringify({ data: 'data', registration: 'open', limits, http, ...config }),
    );
  }

  /** @param options more of them, for another command */
  async start(...options: readonly string[]): Promise<void> {
    const [program, ...args] = this.#command;
    this.#child = spawn(program, [...args, '--config', this.#file, ...options], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const child = this.#child;
    // What a process has said last may come behind its exit.
    this.#ended = new Promise((done) => child.once('close', () => done()));
    process.once('exit', this.#kill);
    this.#output = outputOf(this.#child);
    this.#url = await this.#output.until(/^ {2}(http:\/\/127\.0\.0\.1:\d+)$/m);
    await this.#output.until(/fingerprint, for others to pin: [0-9a-f]{64}/);
  }

  get output(): string {
    return this.#said + (this.#output?.text() ?? '');
  }

  /** Resolves when the process has ended by itself and all that it has said has been read; at once where it does not run. */
  ended(): Promise<void> {
    return this.#ended;
  }

  /** Ends the process: SIGKILL without a chance to save anything. Does nothing where it does not run. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    process.off('exit', this.#kill);
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((done) => child.once('exit', done));
      child.kill(signal);
      await ended;
    }
    this.#said = this.output;
    this.#output = undefined;
  }

  /** One request over HTTP. Rejects where the process is not there, or goes before it has answered. */
  async call(method: string, path: string, token?: string, body?: object): Promise<HttpAnswer> {
    const response = await fetch(`${this.#url}/_matrix/client/v3${path}`, {
      method,
      headers: {
        'content-type': 'application/json',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, json: (await response.json()) as Record<string, unknown> };
  }

  /** Registers a user. @returns the access token */
  async register(username: string): Promise<string> {
    const password = `password of ${username}`;
    const { status, json } = await this.call('POST', '/register', undefined, {
      ...{ username, password },
      auth: { type: 'm.login.dummy' },
    });
    if (status !== 200) throw new Error(`registration: ${JSON.stringify(json)}`);
    return String(json.access_token);
  }

  /** Logs a user in whom `register` has made, on a new device. @returns the access token */
  async login(username: string): Promise<string> {
    const { status, json } = await this.call('POST', '/login', undefined, {
      ...{ type: 'm.login.password', identifier: { type: 'm.id.user', user: username } },
      password: `password of ${username}`,
    });
    if (status !== 200) throw new Error(`login: ${JSON.stringify(json)}`);
    return String(json.access_token);
  }
}
