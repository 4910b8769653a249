import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fromHex, hex } from '../../src/base/bytes.ts';
import { BLOCK_SIZES } from '../../src/coap/block.ts';
import { OPTION } from '../../src/coap/options.ts';
import type { Address } from '../../src/link/link.ts';
import { PeerProcess, startServer } from './peer_process.ts';
import { locationOf, type PeerAnswer, type PeerClient, type PeerRequest, type PeerServer } from './peers.ts';
import { PythonEnvironment } from './python_environment.ts';

const HERE = import.meta.dirname;
const environment = new PythonEnvironment('aiocoap-0.4.17', join(HERE, 'aiocoap_requirements.txt'));
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'FETCH', 'PATCH', 'iPATCH'];

/** @returns why aiocoap cannot run here; undefined where it can. */
export const installAiocoap = (): Promise<string | undefined> => environment.install();

interface Line {
  readonly id: number;
  readonly code: string;
  readonly payload: string;
  readonly options: readonly (readonly [number, string])[];
  readonly error?: string;
}

export class AiocoapClient implements PeerClient {
  readonly #process = PeerProcess.start(environment.python, join(HERE, 'aiocoap_client.py'));
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
    PeerProcess.start(environment.python, join(HERE, 'aiocoap_server.py'), String(free)),
  );
  return { address: `127.0.0.1:${port}`, stop: () => process.stop() };
}
