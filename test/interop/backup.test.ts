import { cpSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ravine } from '../cli/run.ts';
import { RecordProxy } from '../crash/record_proxy.ts';
import { compared, configOf, healed, NAMES, type Name, Speaker } from '../crash/speaker.ts';
import { freePort } from '../free_port.ts';
import { temporaryFolder } from '../storage/temporary_database.ts';
import { RavineProcess } from './ravine_process.ts';

test('a server goes on from a backup that was made under traffic: a new handshake, no number twice, and the rest comes back', async () => {
  const folder = temporaryFolder();
  const ports = { alpha: await freePort('udp'), bravo: await freePort('udp') };
  const proxy = await RecordProxy.open(NAMES.map((name) => [name, ports[name]]));
  onTestFinished(() => proxy.close());
  const speakerOf = (name: Name, other: Name): Speaker => {
    const process = new RavineProcess(join(folder, name), configOf(name, other, ports, proxy));
    onTestFinished(() => process.end('SIGKILL'));
    return new Speaker(name, process);
  };
  const [alpha, bravo] = [speakerOf('alpha', 'bravo'), speakerOf('bravo', 'alpha')];
  await Promise.all([alpha.start(), bravo.start()]);
  await bravo.join(await alpha.createRoom());
  const talks = [alpha.talk(), bravo.talk()];
  for (const talk of talks) talk.catch(() => undefined);
  onTestFinished(() => {
    for (const speaker of [alpha, bravo]) speaker.stopTalking();
  });
  await healed(alpha, bravo);

  const copy = join(folder, 'copy.db');
  const backup = await ravine('backup', copy, '--json', '-c', join(folder, 'alpha', 'ravine.json'));
  expect(backup).toMatchObject({ code: 0, stderr: '' });
  const { tables, left_out } = JSON.parse(backup.stdout);
  expect(tables.events).toBeGreaterThan(5);
  expect(left_out.pipe_sessions).toBe(1);
  // The server goes on meanwhile, and what it says is sent before it ends: nobody else could give it back.
  await healed(alpha, bravo);
  alpha.isQuiet = true;
  expect(await compared(alpha, bravo)).toEqual({ lost: [], twice: [] });

  await alpha.process.end('SIGKILL');
  const { handshake } = proxy.ledger.counts;
  const data = join(folder, 'alpha', 'data');
  renameSync(data, `${data}.old`);
  cpSync(copy, join(data, 'ravine.db'));
  await alpha.process.start();
  alpha.isQuiet = false;
  await healed(alpha, bravo);
  expect(proxy.ledger.counts.handshake).toBeGreaterThan(handshake);
  for (const speaker of [alpha, bravo]) speaker.stopTalking();
  await Promise.all(talks);
  // What was said between the backup and the end has come back from the other server.
  const { lost, twice } = await compared(alpha, bravo);
  expect({ lost, twice, problems: proxy.ledger.problems }).toEqual({ lost: [], twice: [], problems: [] });
});
