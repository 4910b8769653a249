import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { systemRandom } from '../../src/base/random.ts';
import { systemClock } from '../../src/base/time.ts';
import type { Address } from '../../src/link/link.ts';
import { openUdpLink, type UdpLink } from '../../src/link/udp.ts';
import { PipeEndpoint, type PipeStep } from '../../src/pipe/endpoint.ts';
import { createIdentity } from '../../src/pipe/identity.ts';
import { strangersFirst } from '../pipe/flood.ts';

/*
 * A server in a thread of its own, on a real UDP socket, gets 50,000 first messages from a thousand addresses in ten
 * seconds, while an established pipe asks for a thousand records a second and a newcomer arrives.
 *
 *     pipe ══ 1,000 records/s ══ server <── 5,000 openings/s ── 1,000 addresses
 *                                  ^
 *                              newcomer, in the third second
 */

const OPENINGS = 50_000;
const SECONDS = 10;
const ADDRESSES = 1_000;
const RECORDS_PER_SECOND = 1_000;
const QUIET_SECONDS = 3;
const NEWCOMER_AFTER_MS = 3_000;
const PACE_MS = 5;
/** The budgets: half of the rate, five seconds, and what a server with all its bounds reached may hold. */
const KEPT_RATE = 0.5;
const NEWCOMER_MS = 5_000;
const GROWTH_BYTES = 100_000_000;

const LOOPBACK = '127.0.0.1';

/** An endpoint on a real socket. */
class Pipe {
  readonly endpoint: PipeEndpoint;
  readonly link: UdpLink;
  readonly onPayload: (peer: string, bytes: Uint8Array) => void;
  #cancel: () => void = () => {};
  #isClosed = false;

  constructor(name: string, link: UdpLink, onPayload: Pipe['onPayload']) {
    this.link = link;
    this.onPayload = onPayload;
    this.endpoint = new PipeEndpoint({
      identity: createIdentity({
        serverName: name,
        noiseSecret: systemRandom.bytes(32),
        signingKeyId: 'ed25519:1',
        signingSecret: systemRandom.bytes(32),
        serial: 1,
      }),
      random: systemRandom,
      handshakeTiming: () => ({ rate: null, delay: 0, overhead: 42 }),
      wallOrigin: systemClock.wall() - systemClock.monotonic(),
    });
    link.onReceive((from, bytes) => this.run(this.endpoint.receive(from, bytes, systemClock.monotonic())));
  }

  send(peer: string, bytes: Uint8Array): void {
    const item = { bytes, priority: 1, receipt: null, label: 'bench' } as const;
    this.run(this.endpoint.send(peer, [item], systemClock.monotonic()));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    await this.link.close();
  }

  run(step: PipeStep): void {
    if (this.#isClosed) return;
    const now = systemClock.monotonic();
    for (const { to, bytes, label, handshake } of step.datagrams) {
      this.link.send(to, bytes, label);
      if (handshake !== null) this.run(this.endpoint.left(handshake, now));
    }
    for (const event of step.events) {
      if (event.kind === 'payload') this.onPayload(event.peer, event.bytes);
      if (event.kind === 'identity') this.run(this.endpoint.decide(event.session, { trusted: true }, now));
    }
    this.#cancel();
    const { deadline } = this.endpoint.left(-1, now);
    this.#cancel = () => {};
    if (deadline === null) return;
    this.#cancel = systemClock.after(Math.max(0, deadline - now), () =>
      this.run(this.endpoint.tick(systemClock.monotonic())),
    );
  }
}

const openLoopback = (host = LOOPBACK): Promise<UdpLink> => openUdpLink({ host, port: 0 });

/** The server: sends every payload back. Tells how it is when it is asked. */
async function serve(): Promise<void> {
  const link = await openLoopback();
  const pipe = new Pipe('server.example', link, (peer, bytes) => pipe.send(peer, bytes));
  parentPort!.on('message', () => {
    const { rss } = process.memoryUsage();
    parentPort!.postMessage({ rss, sizes: pipe.endpoint.sizes, statistics: pipe.endpoint.statistics });
  });
  parentPort!.postMessage({ address: link.address });
}

/** The flood, at an even pace, each opening from the next address. */
async function flood(server: Address): Promise<void> {
  const links: UdpLink[] = [];
  for (let i = 0; i < ADDRESSES; i++)
    links.push(await openLoopback(`127.1.${1 + (i >> 7)}.${1 + (i & 127)}`));
  const make = strangersFirst(systemRandom);
  parentPort!.postMessage({ ready: true });
  await once(parentPort!, 'message');
  const start = systemClock.monotonic();
  let sent = 0;
  const more = (): void => {
    const elapsed = systemClock.monotonic() - start;
    const due = Math.min(OPENINGS, Math.floor((elapsed / (SECONDS * 1_000)) * OPENINGS));
    for (; sent < due; sent++) links[sent % ADDRESSES]!.send(server, make(), 'XX1');
    if (sent < OPENINGS) systemClock.after(PACE_MS, more);
    else parentPort!.postMessage({ sent, ms: elapsed });
  };
  more();
}

interface Report {
  readonly rss: number;
  readonly sizes: PipeEndpoint['sizes'];
  readonly statistics: PipeEndpoint['statistics'];
}

const wait = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    systemClock.after(ms, () => resolve());
  });

async function told<T>(worker: Worker, question?: string): Promise<T> {
  const answer = once(worker, 'message');
  if (question !== undefined) worker.postMessage(question);
  return (await answer)[0] as T;
}

/** Sends records at an even pace for so long; returns how many came back a second. */
async function rateOf(pipe: Pipe, counted: { echoes: number }, seconds: number): Promise<number> {
  const start = systemClock.monotonic();
  const before = counted.echoes;
  const payload = new Uint8Array(64).fill(0x42);
  let sent = 0;
  for (;;) {
    const elapsed = systemClock.monotonic() - start;
    if (elapsed >= seconds * 1_000) break;
    for (const due = (elapsed / 1_000) * RECORDS_PER_SECOND; sent < due; sent++)
      pipe.send('server.example', payload);
    await wait(PACE_MS);
  }
  return (counted.echoes - before) / seconds;
}

export async function run({ json }: { readonly json: boolean }): Promise<boolean> {
  const start = (job: string, address?: Address): Worker =>
    new Worker(new URL(import.meta.url), { workerData: { job, address } });
  const server = start('serve');
  const { address } = await told<{ address: Address }>(server);
  const flooder = start('flood', address);
  await told(flooder);

  const counted = { echoes: 0 };
  const pipe = new Pipe('pipe.example', await openLoopback(), () => counted.echoes++);
  pipe.endpoint.setPeer('server.example', address);
  const quiet = await rateOf(pipe, counted, QUIET_SECONDS);
  const before = await told<Report>(server, 'report');

  const ended = told<{ sent: number; ms: number }>(flooder, 'start');
  let newcomerMs = Number.POSITIVE_INFINITY;
  const newcomer = async (): Promise<Pipe> => {
    await wait(NEWCOMER_AFTER_MS);
    const began = systemClock.monotonic();
    const pipeOfNewcomer = new Pipe('newcomer.example', await openLoopback(), () => {
      newcomerMs = Math.min(newcomerMs, systemClock.monotonic() - began);
    });
    pipeOfNewcomer.endpoint.setPeer('server.example', address);
    pipeOfNewcomer.send('server.example', new Uint8Array(64).fill(0x42));
    return pipeOfNewcomer;
  };
  const arrived = newcomer();
  const flooded = await rateOf(pipe, counted, SECONDS);
  const late = await arrived;
  const { sent, ms } = await ended;
  const after = await told<Report>(server, 'report');
  await Promise.all([server.terminate(), flooder.terminate(), pipe.close(), late.close()]);

  const growth = after.rss - before.rss;
  const { halfOpen } = after.sizes;
  const kept =
    flooded >= KEPT_RATE * quiet &&
    flooded >= KEPT_RATE * RECORDS_PER_SECOND &&
    newcomerMs <= NEWCOMER_MS &&
    growth <= GROWTH_BYTES;
  const result = { quiet, flooded, newcomerMs, openings: sent, floodMs: ms, growth, halfOpen };
  if (json) process.stdout.write(`${JSON.stringify({ kept, ...result, statistics: after.statistics })}\n`);
  else process.stdout.write(`${table(result, after)}\n${kept ? 'All budgets are kept.' : 'Over budget.'}\n`);
  return kept;
}

function table(
  result: Readonly<Record<'quiet' | 'flooded' | 'newcomerMs' | 'openings' | 'floodMs' | 'growth', number>>,
  { sizes, statistics }: Report,
): string {
  const rows: [string, string][] = [
    ['records a second and back, before', result.quiet.toFixed(0)],
    ['records a second and back, in the flood', result.flooded.toFixed(0)],
    ['the newcomer is answered after, ms', result.newcomerMs.toFixed(0)],
    ['openings, and ms that they took', `${result.openings} ${result.floodMs.toFixed(0)}`],
    ['memory grew by, MB', (result.growth / 1e6).toFixed(1)],
    ['half-open handshakes', String(sizes.halfOpen)],
    ['cookies sent', String(statistics.cookiesSent)],
  ];
  return rows.map(([name, value]) => `${name.padEnd(44)} ${value.padStart(12)}`).join('\n');
}

if (isMainThread) {
  if (import.meta.main) process.exitCode = (await run({ json: process.argv.includes('--json') })) ? 0 : 1;
} else {
  const { job, address } = workerData as { job: string; address: Address };
  await (job === 'serve' ? serve() : flood(address));
}
