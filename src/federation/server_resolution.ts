import { isIP } from 'node:net';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { ServerName } from '../matrix/ids.ts';
import { parseServerName } from '../matrix/ids.ts';
import { BoundedMap } from './bounded.ts';

/** Where to connect for a server name (server-server API, "Resolving server names"). */
export interface Target {
  /** An IP address, without brackets, or a host name to look up. */
  readonly host: string;
  readonly port: number;
  /** The `Host` header; its host is the one that the certificate has to be for. */
  readonly hostHeader: string;
}

export interface SrvRecord {
  readonly name: string;
  readonly port: number;
  readonly priority: number;
  readonly weight: number;
}

/** What resolution asks of the outside; the answers are not trusted. */
export interface ResolutionSources {
  /** GET https://{host}/.well-known/matrix/server, redirects followed; undefined where there is no good answer. */
  wellKnown(
    host: string,
  ): Promise<{ readonly body: unknown; readonly maxAgeMs: Millis | undefined } | undefined>;
  /** SRV records; none where the lookup fails. */
  srv(name: string): Promise<readonly SrvRecord[]>;
}

// The specification's.
const DEFAULT_PORT = 8448;
const WELL_KNOWN_LIFETIME_MS: Millis = 24 * 60 * 60 * 1000;
const MAX_WELL_KNOWN_LIFETIME_MS: Millis = 48 * 60 * 60 * 1000;
const MAX_WELL_KNOWN_ERROR_LIFETIME_MS: Millis = 60 * 60 * 1000;

// Ours.
const MIN_WELL_KNOWN_LIFETIME_MS: Millis = 5 * 60 * 1000;
const FIRST_ERROR_LIFETIME_MS: Millis = 60 * 1000;
const MAX_CACHED_NAMES = 10_000;
const MAX_SRV_TARGETS = 4;

interface CachedDelegation {
  readonly delegated: ServerName | undefined;
  readonly until: Millis;
  /** Failures in a row. */
  readonly failures: number;
}

/** Finds out where a server is. */
export class ServerResolver {
  readonly #sources: ResolutionSources;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #delegations = new BoundedMap<string, CachedDelegation>(MAX_CACHED_NAMES);

  constructor({
    sources,
    clock,
    random,
  }: {
    readonly sources: ResolutionSources;
    readonly clock: Clock;
    readonly random: Random;
  }) {
    this.#sources = sources;
    this.#clock = clock;
    this.#random = random;
  }

  /** The places to try, best first; at least one. */
  async resolve(name: ServerName): Promise<readonly Target[]> {
    const { host, port } = splitServerName(name);
    // Steps 1 and 2.
    if (isIP(host) !== 0 || port !== undefined)
      return [{ host, port: port ?? DEFAULT_PORT, hostHeader: name }];
    // Step 3.
    const delegated = await this.#delegation(host);
    if (delegated === undefined) return this.#bySrv(host);
    const there = splitServerName(delegated);
    if (isIP(there.host) !== 0 || there.port !== undefined) {
      return [{ host: there.host, port: there.port ?? DEFAULT_PORT, hostHeader: delegated }];
    }
    return this.#bySrv(there.host);
  }

  /** Steps 3.3 to 3.5, and 4 to 6: SRV records, or port 8448. */
  async #bySrv(host: string): Promise<readonly Target[]> {
    for (const service of ['_matrix-fed._tcp', '_matrix._tcp']) {
      const records = (await this.#sources.srv(`${service}.${host}`)).filter(isUsable);
      if (records.length === 0) continue;
      return this.#inSrvOrder(records)
        .slice(0, MAX_SRV_TARGETS)
        .map((record) => ({ host: record.name, port: record.port, hostHeader: host }));
    }
    return [{ host, port: DEFAULT_PORT, hostHeader: host }];
  }

  /** By priority; within one, drawn by weight (RFC 2782). */
  #inSrvOrder(records: readonly SrvRecord[]): SrvRecord[] {
    const left = records.toSorted((a, b) => a.priority - b.priority || b.weight - a.weight);
    const ordered: SrvRecord[] = [];
    while (left.length > 0) {
      const group = left.filter((record) => record.priority === left[0]!.priority);
      const draw = this.#random.fraction() * group.reduce((sum, record) => sum + record.weight, 0);
      let sum = 0;
      const chosen =
        group.find((record) => {
          sum += record.weight;
          return draw < sum;
        }) ?? group[0]!;
      ordered.push(chosen);
      left.splice(left.indexOf(chosen), 1);
    }
    return ordered;
  }

  async #delegation(host: string): Promise<ServerName | undefined> {
    const now = this.#clock.monotonic();
    const cached = this.#delegations.get(host);
    if (cached !== undefined && now < cached.until) return cached.delegated;
    const answer = await this.#sources.wellKnown(host);
    const delegated = answer && delegationIn(answer.body);
    if (answer === undefined || delegated === undefined) {
      const failures = (cached?.failures ?? 0) + 1;
      const lifetime = Math.min(
        MAX_WELL_KNOWN_ERROR_LIFETIME_MS,
        FIRST_ERROR_LIFETIME_MS * 2 ** (failures - 1),
      );
      this.#delegations.set(host, { delegated: undefined, until: now + lifetime, failures });
      return undefined;
    }
    const lifetime = Math.max(
      MIN_WELL_KNOWN_LIFETIME_MS,
      Math.min(MAX_WELL_KNOWN_LIFETIME_MS, answer.maxAgeMs ?? WELL_KNOWN_LIFETIME_MS),
    );
    this.#delegations.set(host, { delegated, until: now + lifetime, failures: 0 });
    return delegated;
  }
}

/** The host of a server name, without the brackets of an IPv6 address, and its port. */
export function splitServerName(name: ServerName): {
  readonly host: string;
  readonly port: number | undefined;
} {
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::([0-9]{1,5}))?$/.exec(name);
  const port = match?.[3] === undefined ? undefined : Number(match[3]);
  return { host: match?.[1] ?? match?.[2] ?? name, port };
}

/** `max-age` of a Cache-Control header in milliseconds; 0 where it forbids caching; undefined where it says nothing. */
export function maxAge(cacheControl: string | undefined): Millis | undefined {
  if (cacheControl === undefined) return undefined;
  if (/(?:^|,)\s*(?:no-store|no-cache)\s*(?:,|$)/i.test(cacheControl)) return 0;
  const seconds = /(?:^|,)\s*max-age\s*=\s*"?([0-9]{1,9})"?/i.exec(cacheControl)?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}

function delegationIn(body: unknown): ServerName | undefined {
  const value =
    typeof body === 'object' && body !== null && 'm.server' in body ? body['m.server'] : undefined;
  if (typeof value !== 'string') return undefined;
  const name = parseServerName(value);
  return name.ok ? name.value : undefined;
}

/**
 * A target of "." says that the service is decidedly not available (RFC 2782). Whoever owns a name can make its target
 * any text: what is no host name must not come into a URL.
 */
function isUsable({ name, port }: SrvRecord): boolean {
  const isHost = !name.includes(':') && parseServerName(name.replace(/\.$/, '')).ok;
  return isHost && port > 0 && port <= 65_535;
}
