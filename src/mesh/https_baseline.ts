import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemRandom } from '../base/random.ts';
import { type Millis, sleep, systemClock } from '../base/time.ts';
import { Work } from '../base/work.ts';
import { openHttpDoor } from '../doors/https.ts';
import { startEphemeral } from '../server/ephemeral.ts';
import { throwawayAuthority } from './authority.ts';
import { firstMessage, type Phase } from './first_message.ts';
import { TcpCounter, wireBytes } from './tcp_counter.ts';

/** How long traffic still counts after the last step: the answer to the last transaction is on its way. */
const SETTLE_MS: Millis = 200;

/** Bytes on an Ethernet wire, at least, for each phase of the same conversation over HTTPS and JSON. */
export type Baseline = Readonly<Record<Phase, number>>;

/**
 * Runs the demonstration's conversation between two servers over HTTPS on 127.0.0.1, with connections kept alive, and
 * counts what crosses. In real time: it takes about a second.
 */
export async function httpsBaseline(): Promise<Baseline> {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-baseline-'));
  const closing: (() => Promise<void>)[] = [];
  try {
    const names = ['alpha.example', 'bravo.example'] as const;
    const authority = await throwawayAuthority();
    const ports = new Map<string, number>();
    const counters = new Map<string, TcpCounter>();
    for (const name of names) {
      const counter = await TcpCounter.open(() => ports.get(name)!);
      counters.set(name, counter);
      closing.push(() => counter.close());
    }
    const servers = [];
    for (const [name, peer] of [names, [...names].reverse()] as [string, string][]) {
      const address = `https://127.0.0.1:${counters.get(peer)!.port}`;
      const server = await startEphemeral({
        clock: systemClock,
        random: systemRandom,
        work: new Work(),
        folder,
        config: { server_name: name, federation: { peers: [{ server_name: peer, address }] } },
        https: true,
        certificateAuthorities: [authority.certificate],
      });
      closing.push(() => server.stop());
      const tls = await authority.issue(name);
      const door = await openHttpDoor(server.app, { host: '127.0.0.1', port: 0, tls, clock: systemClock });
      closing.push(() => door.close());
      ports.set(name, door.port);
      servers.push(server);
    }
    const total = (): number => [...counters.values()].reduce((sum, { count }) => sum + wireBytes(count), 0);
    const starts: { phase: Phase; at: number }[] = [];
    await firstMessage({
      alpha: servers[0]!.app,
      bravo: servers[1]!.app,
      phase: (phase) => void starts.push({ phase, at: total() }),
      until: (outcome) => outcome,
    });
    await sleep(systemClock, SETTLE_MS);
    const ends = [...starts.slice(1).map(({ at }) => at), total()];
    return Object.fromEntries(starts.map(({ phase, at }, i) => [phase, ends[i]! - at])) as Baseline;
  } finally {
    for (const close of closing.reverse()) await close();
    rmSync(folder, { recursive: true, force: true });
  }
}
