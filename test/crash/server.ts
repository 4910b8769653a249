import { parseArgs } from 'node:util';
import { type Millis, sleep, systemClock } from '../../src/base/time.ts';
import { readConfig } from '../../src/server/config.ts';
import { createLogger } from '../../src/server/logger.ts';
import { openServer } from '../../src/server/open.ts';
import { type Witness, watchedDatabase, watchedLink } from './boundaries.ts';

/*
 * `ravine serve` with something between it and its disk and network: it says which boundaries it reaches, each once, and
 * kills itself at the one that it is told. `--slow` names whose transactions take long, such as "receiver once".
 */

const { values } = parseArgs({
  options: {
    config: { type: 'string' },
    'die-at': { type: 'string' },
    /** Which time that it is come by. */
    nth: { type: 'string', default: '1' },
    slow: { type: 'string' },
  },
});
const { config: file, 'die-at': dieAt, nth, slow } = values;

/** For what was sent too early to be seen. */
const LAST_WAIT_MS: Millis = 100;
/** Of the transactions that `--slow` names: longer than CoAP waits for an answer that goes with the acknowledgement. */
const SLOW_COMMIT_MS: Millis = 1_500;

const reached = new Map<string, number>();

/** Whether this is where to die. */
function isLast(boundary: string): boolean {
  const times = (reached.get(boundary) ?? 0) + 1;
  reached.set(boundary, times);
  if (times === 1) console.log(`boundary: ${boundary}`);
  return boundary === dieAt && times === Number(nth);
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
    const last = isLast(boundary);
    const isSlow = slow !== undefined && boundary === `before COMMIT ${slow}`;
    const ms = Math.max(last ? LAST_WAIT_MS : 0, isSlow ? SLOW_COMMIT_MS : 0);
    if (ms > 0) await sleep(systemClock, ms);
    if (last) die(boundary);
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
