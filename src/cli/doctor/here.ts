import { accessSync, constants, existsSync, statfsSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { splitServerName } from '../../federation/server_resolution.ts';
import { parseServerName } from '../../matrix/ids.ts';
import type { Config } from '../../server/config.ts';
import { checkSchema, readMigrations } from '../../storage/migrate.ts';
import { writtenFact } from '../../storage/own_keys.ts';
import { openReadOnly } from '../../storage/sqlite.ts';
import { error, type Finding, fine, messageOf, warning } from './finding.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
/** With less the database soon cannot grow. */
const LITTLE_DISK_BYTES = GIB;
const NO_DISK_BYTES = 100 * MIB;
/** What somebody besides the owner may do with a file. */
const FOR_OTHERS = 0o077;
/** A datagram that takes longer to send keeps everything urgent waiting. */
const LONG_DATAGRAM_S = 60;
/** Links of a higher rate need no pacing, and the rate only keeps them back. */
const FAST_RATE = 10_000_000;

/** Whether the name can be found by others. */
export function checkName({ server_name }: Config): Finding {
  const check = 'server name';
  const name = parseServerName(server_name);
  if (!name.ok) return error(check, `${server_name}: ${name.problem}`, 'Write another server_name.');
  const { host } = splitServerName(name.value);
  const never = 'Choose the server_name before anybody has an account: it can never be changed afterwards.';
  if (host === 'localhost')
    return warning(check, 'localhost: nobody elsewhere can talk to this server', never);
  if (isIP(host) !== 0) return warning(check, `${server_name} is an address, which may change`, never);
  if (!host.includes('.'))
    return warning(check, `${server_name} has no domain: only a network of its own can find it`, never);
  return fine(check, server_name);
}

/** The folder of the data: whether it is there, can be written, is closed to others, and has room. */
export function checkFolder({ data }: Config): Finding[] {
  const check = 'data folder';
  if (!existsSync(data))
    return [
      warning(check, `${data} is not there`, 'The first "ravine serve" makes it; else look at "data".'),
    ];
  try {
    accessSync(data, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (thrown) {
    return [error(check, messageOf(thrown), 'Give it to the user that the server runs as (chown).')];
  }
  const open = openToOthers(data);
  const { bavail, bsize } = statfsSync(data);
  const free = bavail * bsize;
  const says = `${free >= GIB ? `${(free / GIB).toFixed(1)} GiB` : `${Math.floor(free / MIB)} MiB`} free`;
  const todo = 'Make room, move the data, or take old history out ("ravine room purge").';
  return [
    open ?? fine(check, data),
    free < NO_DISK_BYTES
      ? error('disk', says, todo)
      : free < LITTLE_DISK_BYTES
        ? warning('disk', says, todo)
        : fine('disk', says),
  ];
}

/** A warning where others than its owner may use a file; undefined where that cannot be told. */
function openToOthers(path: string): Finding | undefined {
  if (process.platform === 'win32' || (statSync(path).mode & FOR_OTHERS) === 0) return undefined;
  const todo = `chmod go= ${path}`;
  return warning('permissions', `${path} is not its owner's alone`, todo);
}

/** Files with secrets in them, as far as they are there. */
export function checkPermissions(config: Config, configFile: string | undefined): Finding[] {
  const keys = config.http.listen.flatMap(({ tls }) => tls?.key ?? []);
  const hasSecret = config.coap.pipe.psk !== null || config.registration.shared_secret !== null;
  const secretConfig = configFile !== undefined && hasSecret ? [configFile] : [];
  const files = [join(config.data, 'ravine.db'), ...keys, ...secretConfig].filter((file) => existsSync(file));
  const found = files.flatMap((file) => openToOthers(file) ?? []);
  return found.length > 0
    ? found
    : [fine('permissions', `what has secrets in it is its owner's alone (${files.length})`)];
}

/** The database: whether it is of this version and this server, and whole. */
export async function checkDatabase({ data, server_name }: Config): Promise<Finding[]> {
  const path = join(data, 'ravine.db');
  if (!existsSync(path))
    return [warning('database', 'there is none yet', 'The first "ravine serve" makes it.')];
  try {
    checkSchema(path);
  } catch (thrown) {
    return [
      error('database', messageOf(thrown), 'Start the server of this version, or go back to the other.'),
    ];
  }
  const database = openReadOnly(path);
  try {
    const level = fine('database', `at migration ${readMigrations().at(-1)?.version}, the newest`);
    const problems = await database.all<{ quick_check: string }>('PRAGMA quick_check(5)');
    const sentences = problems
      .map(({ quick_check }) => quick_check.replaceAll('\n', ' '))
      .filter((one) => one !== 'ok');
    const whole =
      sentences.length === 0
        ? fine('integrity', 'quick_check finds nothing wrong')
        : error(
            'integrity',
            sentences.join('; '),
            'Stop the server and go back to a backup ("ravine backup --help").',
          );
    const owner = await writtenFact(database, 'server_name');
    return owner === undefined || owner === server_name
      ? [level, whole]
      : [
          level,
          whole,
          error('database', `it belongs to ${owner}, not to ${server_name}`, 'Look at server_name and data.'),
        ];
  } catch (thrown) {
    const todo = 'Stop the server and go back to a backup ("ravine backup --help").';
    return [error('integrity', messageOf(thrown), todo)];
  } finally {
    database.close();
  }
}

/** Whether what is said of the links can be. */
export function checkLinks({ coap: { enabled, link, serial } }: Config): Finding[] {
  if (!enabled) return [fine('links', 'CoAP and pipes are off')];
  const found = linkProblems('the UDP port', link.rate, link.mtu);
  for (const { name, path, baud, rate, mtu } of serial) {
    const check = `serial line ${name}`;
    try {
      accessSync(path, constants.R_OK | constants.W_OK);
    } catch (thrown) {
      const todo = 'Plug it in, or give the server the right to it (often the group "dialout").';
      found.push(warning(check, messageOf(thrown), todo));
    }
    found.push(...linkProblems(check, rate ?? baud, mtu ?? 0));
  }
  return found.length > 0 ? found : [fine('links', `${1 + serial.length}, with rates that can be`)];
}

function linkProblems(check: string, rate: number | null, mtu: number): Finding[] {
  if (rate === null) return [];
  if (rate > FAST_RATE)
    return [warning(check, `a rate of ${rate} bits a second needs no pacing`, 'Leave the rate out (null).')];
  const seconds = Math.round((mtu * 8) / rate);
  if (seconds <= LONG_DATAGRAM_S) return [];
  const todo = `Set the mtu to ${Math.max(256, Math.floor((rate * LONG_DATAGRAM_S) / 8))} or less.`;
  return [warning(check, `one datagram of ${mtu} bytes takes ${seconds} s at ${rate} bits a second`, todo)];
}
