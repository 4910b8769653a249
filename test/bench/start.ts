import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../free_port.ts';

const READY_BUDGET_MS = 300;
const STARTS = 7;
const POLL_MS = 2;
/** Of /proc/PID/stat. */
const CLOCK_TICK_MS = 10;
const GIVE_UP_MS = 120_000;
const RAVINE = new URL('../../bin/ravine.js', import.meta.url).pathname;

/** Milliseconds from the start of the process to an answer of each door; the pipe's door opens when the models are loaded. */
interface Ready {
  readonly http: number;
  readonly coap: number;
  /** Of that to the answer over HTTP, what the process had the use of a core. */
  readonly work: number;
}

/**
 * How long a server takes from the start of its process to its first answer over HTTP, and over CoAP with both models loaded: on a
 * machine with nothing else to do, and on one whose cores are all busy. @returns whether the budget is kept
 */
export async function run({ json }: { readonly json: boolean }): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-start-'));
  try {
    const quiet = await starts(folder);
    const burners = Array.from({ length: availableParallelism() }, () =>
      spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
    );
    let busy: Ready;
    try {
      busy = await starts(folder);
    } finally {
      for (const burner of burners) burner.kill('SIGKILL');
    }
    const kept = quiet.http < READY_BUDGET_MS;
    if (json) process.stdout.write(`${JSON.stringify({ kept, quiet, busy })}\n`);
    else
      process.stdout.write(
        `${table({ quiet, busy })}\nReady within ${READY_BUDGET_MS} ms on a quiet machine: ${kept ? 'kept' : 'not kept'}.\n`,
      );
    return kept;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function table(rows: Readonly<Record<string, Ready>>): string {
  const lines = Object.entries(rows).map(
    ([name, { http, work, coap }]) =>
      name.padEnd(14) + [http, work, coap].map((ms) => ms.toFixed(0).padStart(14)).join(''),
  );
  const head = ['HTTP', 'work to HTTP', 'CoAP'].map((name) => name.padStart(14)).join('');
  return [`${'milliseconds'.padEnd(14)}${head}`, ...lines].join('\n');
}

/** The medians; the first start makes the database and the compile cache, and does not count. */
async function starts(folder: string): Promise<Ready> {
  await start(folder);
  const all: Ready[] = [];
  for (let i = 0; i < STARTS; i++) all.push(await start(folder));
  const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[(STARTS - 1) / 2]!;
  return {
    http: median(all.map(({ http }) => http)),
    coap: median(all.map(({ coap }) => coap)),
    work: median(all.map(({ work }) => work)),
  };
}

async function start(folder: string): Promise<Ready> {
  const [http, udp] = [await freePort('tcp'), await freePort('udp')];
  const config = join(folder, 'ravine.json');
  writeFileSync(
    config,
    JSON.stringify({
      data: folder,
      http: { listen: [{ host: '127.0.0.1', port: http }] },
      coap: { port: udp, pipe: { models: 'large' } },
      log: { level: 'silent' },
    }),
  );
  const begun = performance.now();
  const server = spawn(process.execPath, [RAVINE, 'serve', '--config', config], { stdio: 'ignore' });
  try {
    const [overHttp, coap] = await Promise.all([
      until(server, () => answersHttp(http)).then(() => ({
        http: performance.now() - begun,
        work: workOf(server),
      })),
      answersCoap(udp).then(() => performance.now() - begun),
    ]);
    return { ...overHttp, coap };
  } finally {
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGTERM');
    await ended;
  }
}

/** Processor time of a process in milliseconds (Linux's /proc); not a number elsewhere. */
function workOf({ pid }: ChildProcess): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) * CLOCK_TICK_MS;
  } catch {
    return Number.NaN;
  }
}

async function until(server: ChildProcess, isThere: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + GIVE_UP_MS;
  while (!(await isThere())) {
    if (server.exitCode !== null || performance.now() > end) throw new Error('the server does not answer');
    await pause(POLL_MS);
  }
}

const answersHttp = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const asked = request({ port, host: '127.0.0.1', path: '/_matrix/client/versions' }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode === 200));
    });
    asked.once('error', () => resolve(false));
    asked.end();
  });

/** A confirmable GET of /.well-known/core, which has one form and no body (RFC 7252, section 3; RFC 6690). */
function answersCoap(port: number): Promise<void> {
  const socket = createSocket('udp4');
  const path = (segment: string, first: number): Buffer =>
    Buffer.concat([Buffer.of((first << 4) | Math.min(segment.length, 12)), Buffer.from(segment)]);
  const ask = Buffer.concat([Buffer.of(0x40, 0x01, 0x00, 0x01), path('.well-known', 11), path('core', 0)]);
  return new Promise((resolve, reject) => {
    const timer = setInterval(() => socket.send(ask, port, '127.0.0.1'), POLL_MS);
    const stop = setTimeout(() => done(() => reject(new Error('CoAP does not answer'))), GIVE_UP_MS);
    const done = (settle: () => void): void => {
      clearInterval(timer);
      clearTimeout(stop);
      socket.close();
      settle();
    };
    socket.once('message', () => done(resolve));
  });
}
