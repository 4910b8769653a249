import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hex } from '../../src/base/bytes.ts';
import type { Address } from '../../src/link/link.ts';
import { COAP_CLIENT } from './coap_client.ts';
import { PeerProcess, startServer } from './peer_process.ts';
import { locationOf, type PeerAnswer, type PeerClient, type PeerRequest, type PeerServer } from './peers.ts';

/** libcoap's example server, Debian: libcoap3-bin. */
const COAP_SERVER = 'coap-server-notls';
/** Resources that a PUT may create. */
const DYNAMIC_RESOURCES = 50;
/** It prints every message, also those of a hundred blocks. */
const OUTPUT_BYTES = 2 ** 26;
const OBSERVE_SECONDS = 60;

/** A received message in the client's trace. */
const RECEIVED = / received \d+ bytes\nv:1 t:\w+ c:(\d\.\d\d) .*? \[(.*?) \]/g;

export class LibcoapClient implements PeerClient {
  readonly #folder = mkdtempSync(join(tmpdir(), 'ravine-libcoap-'));
  readonly #observations = new Set<PeerProcess>();
  readonly #extra: readonly string[];
  #files = 0;

  /** @param extra such as `-l` with what it is to lose. */
  constructor(...extra: string[]) {
    this.#extra = extra;
  }

  request(server: Address, request: PeerRequest): Promise<PeerAnswer> {
    const {
      method,
      target,
      payload,
      options = [],
      blockSize,
      confirmable = true,
      timeoutMs = 30_000,
    } = request;
    const output = join(this.#folder, `out${this.#files}`);
    const input = join(this.#folder, `in${this.#files++}`);
    const args = [...this.#extra, '-v', '7', '-B', String(Math.ceil(timeoutMs / 1000)), '-o', output];
    args.push('-m', method.toLowerCase());
    if (payload !== undefined) {
      writeFileSync(input, payload);
      args.push('-f', input);
    }
    if (blockSize !== undefined) args.push('-b', String(blockSize));
    if (!confirmable) args.push('-N');
    for (const { number, value } of options)
      args.push('-O', `${number},${value.length === 0 ? '' : `0x${hex(value)}`}`);
    args.push(`coap://${server}${target}`);
    return new Promise((resolve, reject) => {
      const limits = { maxBuffer: OUTPUT_BYTES, encoding: 'latin1', timeout: timeoutMs + 10_000 } as const;
      execFile(COAP_CLIENT, args, limits, (error, stdout, stderr) => {
        if (error !== null) return reject(error);
        const said = stdout + stderr;
        const last = [...said.matchAll(RECEIVED)].filter(([, code]) => code !== '0.00').at(-1);
        if (last === undefined || last[1] === '2.31')
          return reject(new Error(`no answer: ${said.slice(-300)}`));
        resolve(answerOf(last[1]!, last[2]!, read(output)));
      });
    });
  }

  async observe(
    server: Address,
    target: string,
    onValue: (text: string, length: number) => void,
  ): Promise<() => Promise<void>> {
    const args = [
      ...this.#extra,
      '-s',
      String(OBSERVE_SECONDS),
      '-B',
      String(2 * OBSERVE_SECONDS),
      '-w',
      '-o',
      '-',
    ];
    const process = PeerProcess.onLeash(COAP_CLIENT, ...args, `coap://${server}${target}`);
    this.#observations.add(process);
    let rest = '';
    process.child.stdout!.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines) onValue(line, line.length);
    });
    return () => process.stop();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#observations].map((process) => process.stop()));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** No file is written where the answer has no payload or is an error. */
function read(file: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(file));
  } catch {
    return new Uint8Array(0);
  }
}

function answerOf(code: string, options: string, payload: Uint8Array): PeerAnswer {
  const all = (name: string): string[] =>
    [...options.matchAll(new RegExp(` ${name}:([^,]*)`, 'g'))].map(([, one]) => one!);
  return {
    code,
    payload,
    eTag: all('ETag')[0]?.replace(/^0x/, ''),
    location: locationOf(all('Location-Path'), all('Location-Query')),
  };
}

/** @param extra such as `-l` with what it is to lose. */
export async function startLibcoapServer(...extra: string[]): Promise<PeerServer> {
  const fixed = ['-A', '127.0.0.1', '-d', String(DYNAMIC_RESOURCES), ...extra];
  const { process, port } = await startServer((free) =>
    PeerProcess.onLeash(COAP_SERVER, '-p', String(free), ...fixed),
  );
  return { address: `127.0.0.1:${port}`, stop: () => process.stop() };
}
