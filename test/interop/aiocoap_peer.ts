import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fromHex, hex } from '../../src/base/bytes.ts';
import { BLOCK_SIZES } from '../../src/coap/block.ts';
import { OPTION } from '../../src/coap/options.ts';
import type { Address } from '../../src/link/link.ts';
import { PeerProcess, startServer } from './peer_process.ts';
import { locationOf, type PeerAnswer, type PeerClient, type PeerRequest, type PeerServer } from './peers.ts';

const HERE = import.meta.dirname;
/** Ignored by git, gone with `node_modules`; the name changes with what is installed. */
const CACHE = resolve(HERE, '../../node_modules/.cache/peers');
const ENVIRONMENT = join(CACHE, 'aiocoap-0.4.17');
const PYTHON = join(ENVIRONMENT, 'bin/python');
const INSTALL_TIMEOUT_MS = 100_000;
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'FETCH', 'PATCH', 'iPATCH'];

/**
 * Sees to it that aiocoap is there: in a virtual environment of its own, made by the first run.
 * @returns why it is not; undefined where it is.
 */
export async function installAiocoap(): Promise<string | undefined> {
  if (existsSync(PYTHON)) return undefined;
  mkdirSync(CACHE, { recursive: true });
  const fresh = `${ENVIRONMENT}.${process.pid}`;
  try {
    await run('python3', '-m', 'venv', fresh);
    const requirements = ['--require-hashes', '-r', join(HERE, 'aiocoap_requirements.txt')];
    const quiet = ['--quiet', '--no-input', '--disable-pip-version-check'];
    await run(join(fresh, 'bin/python'), '-m', 'pip', 'install', ...quiet, ...requirements);
    // Whole or not at all; whoever comes second uses what the first has made.
    if (!existsSync(PYTHON)) renameSync(fresh, ENVIRONMENT);
    return undefined;
  } catch (error) {
    return String(error).split('\n').at(-1)!;
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

function run(command: string, ...args: string[]): Promise<void> {
  return new Promise((done, fail) => {
    let said = '';
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: INSTALL_TIMEOUT_MS });
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
    child.once('error', fail);
    child.once('exit', (status) =>
      status === 0 ? done() : fail(new Error(`${command} ${args.join(' ')}: ${said.trim()}`)),
    );
  });
}

interface Line {
  readonly id: number;
  readonly code: string;
  readonly payload: string;
  readonly options: readonly (readonly [number, string])[];
  readonly error?: string;
}

export class AiocoapClient implements PeerClient {
  readonly #process = PeerProcess.start(PYTHON, join(HERE, 'aiocoap_client.py'));
  readonly #waiting = new Map<number, (line: Line) => void>();
  #ids = 0;

  constructor() {
    createInterface({ input: this.#process.child.stdout! }).on('line', (text) => {
      const line = JSON.parse(text) as Line;
      this.#waiting.get(line.id)?.(line);
    });
  }

  request(server: Address, request: PeerRequest): Promise<PeerAnswer> {
    return new Promise((done, fail) => {
      const id = this.#order(server, request, false, (line) => {
        this.#waiting.delete(id);
        if (line.error === undefined) done(answerOf(line));
        else fail(new Error(line.error));
      });
    });
  }

  async observe(
    server: Address,
    target: string,
    onValue: (text: string, length: number) => void,
  ): Promise<() => Promise<void>> {
    const id = this.#order(server, { method: 'GET', target }, true, (line) => {
      if (line.error !== undefined) return onValue(line.error, 0);
      const { payload } = answerOf(line);
      onValue(new TextDecoder().decode(payload), payload.length);
    });
    return async () => {
      this.#waiting.delete(id);
      this.#write({ id, cancel: true });
    };
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }

  #order(server: Address, request: PeerRequest, observe: boolean, take: (line: Line) => void): number {
    const {
      method,
      target,
      payload,
      options = [],
      blockSize,
      confirmable = true,
      timeoutMs = 30_000,
    } = request;
    const id = this.#ids++;
    this.#waiting.set(id, take);
    this.#write({
      id,
      code: METHODS.indexOf(method) + 1,
      uri: `coap://${server}${target}`,
      payload: hex(payload ?? new Uint8Array(0)),
      options: options.map(({ number, value }) => [number, hex(value)]),
      size: blockSize === undefined ? null : (BLOCK_SIZES as readonly number[]).indexOf(blockSize),
      non: !confirmable,
      observe,
      timeout: timeoutMs / 1000,
    });
    return id;
  }

  #write(order: object): void {
    this.#process.child.stdin!.write(`${JSON.stringify(order)}\n`);
  }
}

function answerOf({ code, payload, options }: Line): PeerAnswer {
  const texts = (wanted: number): string[] =>
    options.filter(([number]) => number === wanted).map(([, value]) => Buffer.from(value, 'hex').toString());
  return {
    code,
    payload: fromHex(payload)!,
    eTag: options.find(([number]) => number === OPTION.eTag)?.[1],
    location: locationOf(texts(OPTION.locationPath), texts(OPTION.locationQuery)),
  };
}

export async function startAiocoapServer(): Promise<PeerServer> {
  const { process, port } = await startServer((free) =>
    PeerProcess.start(PYTHON, join(HERE, 'aiocoap_server.py'), String(free)),
  );
  return { address: `127.0.0.1:${port}`, stop: () => process.stop() };
}
