import { parseArgs } from 'node:util';
import { sleep, systemClock } from '../../src/base/time.ts';
import { readConfig } from '../../src/server/config.ts';
import { createLogger } from '../../src/server/logger.ts';
import { openServer } from '../../src/server/open.ts';
import { type Witness, watchedDatabase, watchedLink } from './boundaries.ts';

/*
 * `ravine serve` with something between it and its disk and network: it says which boundaries it reaches, each once, and
 * kills itself at the one that it is told.
 */

const { values } = parseArgs({
  options: {
    config: { type: 'string' },
    'die-at': { type: 'string' },
    time: { type: 'string', default: '1' },
  },
});
const { config: file, 'die-at': dieAt } = values;

/** For what was sent too early to be seen. */
const SLOW_DISK_MS = 100;

const reached = new Set<string>();

/** Whether this is where to die. */
function isLast(boundary: string): boolean {
  if (reached.has(boundary)) return false;
  reached.add(boundary);
  console.log(`boundary: ${boundary}`);
  return boundary === dieAt;
}

function die(boundary: string): void {
  console.log(`dies: ${boundary}`);
  process.kill(process.pid, 'SIGKILL');
}

const witness: Witness = {
  reach(boundary) {
    if (isLast(boundary)) die(boundary);
  },
  async wait(boundary) {
    if (!isLast(boundary)) return;
    await sleep(systemClock, SLOW_DISK_MS);
    die(boundary);
  },
};

const config = readConfig(file);
const server = await openServer(config, createLogger(config.log.level), {
  decorate: {
    database: (database) => watchedDatabase(database, witness),
    link: (link) => watchedLink(link, witness),
  },
});
for (const { host, port } of server.http) console.log(`  http://${host}:${port}`);
console.log(`  signing key fingerprint, for others to pin: ${server.homeserver.fingerprint}`);
