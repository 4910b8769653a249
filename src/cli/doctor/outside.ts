import type { Millis } from '../../base/time.ts';
import { splitServerName } from '../../federation/server_resolution.ts';
import { parseServerName } from '../../matrix/ids.ts';
import type { Config } from '../../server/config.ts';
import { error, type Finding, fine, messageOf, warning } from './finding.ts';

/** Events get their time from this clock, and keys and certificates are judged by it. */
const BAD_CLOCK_MS: Millis = 60_000;
const WRONG_CLOCK_MS: Millis = 10 * 60_000;

export type UdpFinding = 'answers' | 'taken' | 'free';

export interface OutsideAnswer {
  readonly status: number;
  /** The header Date as Unix time in milliseconds. */
  readonly date: Millis | undefined;
  readonly anyOrigin: boolean;
  /** What JSON the body is; undefined where it is none. */
  readonly json: unknown;
}

/** What a check asks of others; each may throw. */
export interface Outside {
  /** Asks over HTTP or HTTPS, with the certificate checked. */
  get(url: string): Promise<OutsideAnswer>;
  /** What is at a UDP address of this machine: what answers a CoAP ping, something else, or nothing. */
  udp(host: string, port: number): Promise<UdpFinding>;
  /** The fingerprints of the signing keys that are in use here, as another server would be told over HTTPS. */
  ownKeys(): Promise<readonly string[]>;
  now(): Millis;
}

/** Whether the server runs: its listeners and its UDP port, from this machine. */
export async function checkRunning(config: Config, outside: Outside): Promise<Finding[]> {
  const found: Finding[] = [];
  for (const { host, port, tls } of config.http.listen) {
    const check = `HTTP port ${port}`;
    // The certificate is another check's, and is not for this address.
    if (tls !== undefined) continue;
    const at = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
    const answer = await attempt(outside.get(`http://${at}:${port}/_matrix/client/versions`));
    found.push(
      typeof answer === 'string'
        ? error(
            check,
            `nobody answers: ${answer}`,
            'Start the server, or look whether something else has that port.',
          )
        : isVersions(answer.json)
          ? fine(check, 'a Matrix server answers')
          : error(check, 'somebody else answers there', 'Free the port, or choose another.'),
    );
  }
  if (config.coap.enabled) found.push(await checkUdp(config, outside));
  return found;
}

async function checkUdp({ coap: { host, port, plain } }: Config, outside: Outside): Promise<Finding> {
  const check = `UDP port ${port}`;
  const there = await outside.udp(host, port).catch(messageOf);
  if (there === 'answers') return fine(check, 'it answers a CoAP ping');
  if (there === 'free') return error(check, 'nobody listens', 'Start the server.');
  if (there !== 'taken') return error(check, there, 'Look at the host and port of "coap".');
  if (plain === 'off') return fine(check, 'somebody listens; it cannot be asked, since plain CoAP is off');
  return warning(
    check,
    'who listens does not answer a CoAP ping',
    'Look whether something else has that port.',
  );
}

/** Whether clients find the server by its name, and reach it. */
export async function checkClients(config: Config, outside: Outside): Promise<Finding[]> {
  const name = parseServerName(config.server_name);
  if (!name.ok) return [];
  const url = `https://${bracketed(splitServerName(name.value).host)}/.well-known/matrix/client`;
  const wanted = config.http.public_base_url;
  const check = 'well-known client';
  const answer = await attempt(outside.get(url));
  const serve = `Let the web server of that host pass ${url} on to Ravine, or put the document there.`;
  const found: Finding[] = [];
  if (typeof answer === 'string' || answer.status !== 200) {
    const why = typeof answer === 'string' ? answer : `status ${answer.status}`;
    found.push(warning(check, `${url}: ${why}; clients have to be told the address by hand`, serve));
  } else {
    const base = baseUrlIn(answer.json);
    if (base === undefined) found.push(error(check, `${url} is not what clients read`, serve));
    else if (wanted !== null && trimmed(base) !== trimmed(wanted))
      found.push(error(check, `it says ${base}, and the configuration ${wanted}`, 'Make them the same.'));
    else if (!answer.anyOrigin)
      found.push(error(check, 'browsers may not read it', 'Let it have "Access-Control-Allow-Origin: *".'));
    else found.push(fine(check, base));
  }
  return [...found, ...(wanted === null ? [] : await checkBaseUrl(wanted, outside))];
}

async function checkBaseUrl(base: string, outside: Outside): Promise<Finding[]> {
  const check = 'clients';
  const answer = await attempt(outside.get(`${trimmed(base)}/_matrix/client/versions`));
  const todo = 'Look at public_base_url, the proxy, DNS and the firewall.';
  if (typeof answer === 'string') return [error(check, `${base}: ${answer}`, todo)];
  if (!isVersions(answer.json)) return [error(check, `${base}: no Matrix server answers there`, todo)];
  return [fine(check, `${base} answers`)];
}

/** Whether other servers find this one by its name, and meet its key there. @param fingerprint of the own signing key */
export async function checkServers(fingerprint: string, outside: Outside): Promise<Finding> {
  const check = 'federation';
  const keys = await attempt(outside.ownKeys());
  if (typeof keys === 'string') {
    const todo =
      'Serve HTTPS at the server name, port 8448, or say in /.well-known/matrix/server where; and open the port.';
    return error(check, keys, todo);
  }
  if (!keys.includes(fingerprint))
    return error(
      check,
      'another server answers at this name: its signing key is not this one',
      'Look whom the name leads to, and whether the database is the right one.',
    );
  return fine(check, 'other servers find this one, with its signing key');
}

/** This machine's clock against that of somebody else. */
export async function checkClock(reference: string, outside: Outside): Promise<Finding> {
  const check = 'clock';
  const before = outside.now();
  const answer = await attempt(outside.get(reference));
  const after = outside.now();
  if (typeof answer === 'string' || answer.date === undefined) {
    const why = typeof answer === 'string' ? answer : 'it tells no time';
    return warning(check, `not compared: ${reference}: ${why}`, 'Name another server with --clock.');
  }
  // The header counts whole seconds, and its second may have been any while the answer was made.
  const off =
    answer.date > after
      ? answer.date - after
      : before > answer.date + 1_000
        ? before - answer.date - 1_000
        : 0;
  const says = off === 0 ? `as that of ${new URL(reference).host}` : `${Math.round(off / 1000)} s off`;
  const todo = 'Let the clock be set by NTP (chrony, systemd-timesyncd).';
  if (off > WRONG_CLOCK_MS) return error(check, says, todo);
  return off > BAD_CLOCK_MS ? warning(check, says, todo) : fine(check, says);
}

/** What comes of it, or why nothing does. */
const attempt = <T extends object>(outcome: Promise<T>): Promise<T | string> =>
  outcome.catch((thrown: unknown) => messageOf(thrown));

const isVersions = (json: unknown): boolean =>
  typeof json === 'object' && json !== null && 'versions' in json && Array.isArray(json.versions);

function baseUrlIn(json: unknown): string | undefined {
  if (typeof json !== 'object' || json === null || !('m.homeserver' in json)) return undefined;
  const homeserver = json['m.homeserver'];
  if (typeof homeserver !== 'object' || homeserver === null || !('base_url' in homeserver)) return undefined;
  return typeof homeserver.base_url === 'string' ? homeserver.base_url : undefined;
}

const trimmed = (url: string): string => url.replace(/\/+$/, '');
const bracketed = (host: string): string => (host.includes(':') ? `[${host}]` : host);
