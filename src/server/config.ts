import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname, resolve } from 'node:path';
import { Ajv, type ErrorObject } from 'ajv';
import { parse } from 'yaml';
import type { EphemeralConfig } from '../federation/edus/policy.ts';
import { parsePeerAddress, serialLink } from '../federation/transports.ts';
import type { Policy, RegistrationMode } from '../homeserver/registration.ts';
import type { EncryptedRooms } from '../homeserver/rooms/create_room.ts';
import { USER_RATES, type UserRates } from '../homeserver/user_limits.ts';
import type { VoipConfig } from '../homeserver/voip.ts';
import { parseCallsign } from '../link/ax25.ts';
import { lineRate } from '../link/serial.ts';
import { parseServerName } from '../matrix/ids.ts';

/** What a configuration file says, defaults filled in, paths absolute; frozen. Keys as in config/ravine.example.yaml. */
export interface Config {
  readonly server_name: string;
  readonly data: string;
  readonly registration: {
    readonly mode: RegistrationMode;
    /** By a name of the operator's choice. */
    readonly terms: Readonly<Record<string, Policy>>;
    readonly shared_secret: string | null;
  };
  readonly http: {
    readonly listen: readonly HttpListener[];
    /** IP addresses, networks as `192.0.2.0/24`, or `loopback`. */
    readonly trusted_proxies: readonly string[];
    readonly public_base_url: string | null;
    readonly well_known: {
      /** `host:port` or `host`. */
      readonly server: string | null;
      readonly support_page: string | null;
      readonly contacts: readonly SupportContact[];
    };
  };
  readonly coap: {
    readonly enabled: boolean;
    readonly host: string;
    readonly port: number;
    readonly plain: 'loopback' | 'proved' | 'trusted' | 'off';
    readonly link: {
      readonly rate: number | null;
      readonly delay_ms: number;
      readonly mtu: number;
      readonly airtime_per_hour_s: number | null;
    };
    readonly websocket: boolean;
    readonly serial: readonly SerialConfig[];
    readonly pipe: {
      readonly mode: 'encrypted' | 'authenticated-only';
      /** Base64 of 32 bytes. */
      readonly psk: string | null;
      readonly station: string | null;
      readonly devices: boolean;
      readonly early_sends: boolean;
      readonly models: 'auto' | 'small' | 'large' | 'off';
      readonly signatures: 'inline' | 'deferred';
      /** Seconds. */
      readonly keep_alive: number | null;
    };
  };
  readonly federation: {
    readonly trust: 'verified' | 'tofu';
    readonly peers: readonly PeerConfig[];
    /** Names of servers that may tell the keys of others. */
    readonly notaries: readonly string[];
    /** Files of PEM certificates. */
    readonly certificate_authorities: readonly string[];
    readonly ephemeral: EphemeralConfig;
  };
  readonly presence: { readonly enabled: boolean };
  readonly media: {
    readonly max_upload_bytes: number;
    readonly max_remote_bytes: number;
    readonly max_user_bytes: number | null;
    readonly max_user_files: number | null;
    readonly max_pending: number;
    readonly unused_hours: number;
    readonly thumbnails: {
      readonly max_source_bytes: number;
      readonly max_pixels: number;
      readonly max_memory_mib: number;
      readonly timeout_ms: number;
    };
    readonly retention: {
      readonly local_days: number | null;
      readonly remote_days: number | null;
      readonly preview_days: number | null;
      readonly remote_bytes: number | null;
    };
    readonly url_previews: {
      readonly enabled: boolean;
      readonly blocked_hosts: readonly string[];
      readonly max_page_bytes: number;
      readonly max_image_bytes: number;
      readonly timeout_ms: number;
    };
  };
  readonly voip: VoipConfig;
  readonly push: {
    /** Origins of push gateways that may be at inside addresses, and without TLS. */
    readonly inside_gateways: readonly string[];
  };
  readonly rooms: { readonly encrypt: EncryptedRooms };
  /** How often a user may do something; null: as often as they like. */
  readonly limits: UserRates | null;
  readonly log: { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent' };
}

export interface HttpListener {
  readonly host: string;
  readonly port: number;
  /** Files in PEM. */
  readonly tls?: { readonly certificate: string; readonly key: string };
}

/** Client-server API, `GET /.well-known/matrix/support`. One of the two ways is there. */
export interface SupportContact {
  readonly role: string;
  readonly matrix_id?: string;
  readonly email_address?: string;
}

/** What is left out follows from the line and its framing: see SerialLinkOptions. */
export interface SerialConfig {
  readonly name: string;
  readonly path: string;
  readonly baud: number;
  readonly framing: 'slip' | 'kiss';
  readonly ax25?: { readonly callsign: string };
  readonly plain?: 'trusted' | 'off';
  readonly rate?: number;
  readonly delay_ms?: number;
  readonly mtu?: number;
  readonly overhead?: number;
  readonly airtime_per_hour_s?: number;
}

export interface PeerConfig {
  readonly server_name: string;
  readonly address: string;
  readonly trust?: 'verified' | 'tofu' | { readonly pinned: string };
}

/** Any part of a configuration, as a file or a caller gives it. */
export type PartialConfig = {
  readonly [K in keyof Config]?:
    | DeepPartial<Config[K]>
    | (K extends 'registration' ? RegistrationMode : never);
};
type DeepPartial<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [K in keyof T]?: DeepPartial<T[K]> }
    : T;

const MIB = 1024 * 1024;

const DEFAULTS: Config = {
  server_name: 'localhost',
  data: './data',
  registration: { mode: 'closed', terms: {}, shared_secret: null },
  http: {
    listen: [{ host: '127.0.0.1', port: 8008 }],
    trusted_proxies: ['loopback'],
    public_base_url: null,
    well_known: { server: null, support_page: null, contacts: [] },
  },
  coap: {
    enabled: true,
    host: '127.0.0.1',
    port: 5683,
    plain: 'loopback',
    link: { rate: null, delay_ms: 0, mtu: 1200, airtime_per_hour_s: null },
    websocket: true,
    serial: [],
    pipe: {
      mode: 'encrypted',
      psk: null,
      station: null,
      devices: true,
      early_sends: false,
      models: 'auto',
      signatures: 'inline',
      keep_alive: null,
    },
  },
  federation: {
    trust: 'verified',
    peers: [],
    notaries: [],
    certificate_authorities: [],
    ephemeral: { slow_below: 20_000, typing: 'fast', presence: 'fast', receipts: 'idle' },
  },
  presence: { enabled: false },
  media: {
    max_upload_bytes: 50 * MIB,
    max_remote_bytes: 50 * MIB,
    max_user_bytes: null,
    max_user_files: null,
    max_pending: 20,
    unused_hours: 24,
    thumbnails: {
      max_source_bytes: 20 * MIB,
      max_pixels: 32_000_000,
      max_memory_mib: 320,
      timeout_ms: 10_000,
    },
    retention: { local_days: null, remote_days: 90, preview_days: 30, remote_bytes: 10 * 1024 * MIB },
    url_previews: {
      enabled: false,
      blocked_hosts: [],
      max_page_bytes: MIB,
      max_image_bytes: 10 * MIB,
      timeout_ms: 10_000,
    },
  },
  voip: { turn_uris: [], turn_secret: null, turn_lifetime_s: 86_400, livekit: null },
  push: { inside_gateways: [] },
  rooms: { encrypt: 'off' },
  limits: USER_RATES,
  log: { level: 'info' },
};

/** A configuration that cannot be used; the message says where and why. */
export class ConfigError extends Error {}

/**
 * Reads and checks a YAML file; without a file the defaults. Paths in it are relative to the file.
 * @throws ConfigError
 */
export function readConfig(file: string | undefined): Config {
  if (file === undefined) return completeConfig({}, process.cwd());
  let value: unknown;
  try {
    value = parse(readFileSync(file, 'utf8')) ?? {};
  } catch (error) {
    throw new ConfigError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return completeConfig(value, dirname(resolve(file)), file);
}

/**
 * Checks a partial configuration and fills in what it leaves out.
 * @param base the folder that relative paths start from
 * @throws ConfigError
 */
export function completeConfig(value: unknown, base: string, file = 'configuration'): Config {
  const schema = JSON.parse(
    readFileSync(new URL('../../config/ravine.schema.json', import.meta.url), 'utf8'),
  ) as object;
  const ajv = new Ajv({ allErrors: true, allowUnionTypes: true });
  if (!ajv.validate(schema, value)) throw new ConfigError(`${file}: ${problemsOf(ajv.errors ?? [])}`);
  const merged = merge(DEFAULTS, withModeSpelledOut(value as PartialConfig));
  const { rate, airtime_per_hour_s } = merged.coap.link;
  if (airtime_per_hour_s !== null && rate === null)
    throw new ConfigError(
      `${file}: /coap/link/airtime_per_hour_s: airtime is known only where there is a rate`,
    );
  const problem =
    serialProblem(merged.coap.serial, merged.federation.peers) ??
    httpProblem(merged.http) ??
    pushProblem(merged.push);
  if (problem !== undefined) throw new ConfigError(`${file}: ${problem}`);
  const absolute = (path: string): string => resolve(base, path);
  return freeze({
    ...merged,
    data: absolute(merged.data),
    http: {
      ...merged.http,
      listen: merged.http.listen.map(({ tls, ...listener }) =>
        tls === undefined
          ? listener
          : { ...listener, tls: { certificate: absolute(tls.certificate), key: absolute(tls.key) } },
      ),
    },
    federation: {
      ...merged.federation,
      certificate_authorities: merged.federation.certificate_authorities.map(absolute),
    },
  });
}

/** One text of what the validator has found; a key that is not known is named. */
function problemsOf(errors: readonly ErrorObject[]): string {
  return errors
    .map(({ instancePath, keyword, message, params }) =>
      keyword === 'additionalProperties'
        ? `${instancePath}/${params.additionalProperty}: there is no such key`
        : `${instancePath} ${message}`,
    )
    .join(', ');
}

/** What a schema cannot say of HTTP; undefined where all is well. */
function httpProblem({ trusted_proxies, well_known: { server } }: Config['http']): string | undefined {
  for (const [i, proxy] of trusted_proxies.entries())
    if (proxy !== 'loopback' && !isNetwork(proxy))
      return `/http/trusted_proxies/${i}: an IP address, a network such as 192.0.2.0/24, or "loopback"`;
  if (server !== null && !parseServerName(server).ok)
    return '/http/well_known/server: a host, or a host and a port, as in matrix.example.org:443';
  return undefined;
}

/** What a schema cannot say of push gateways; undefined where all is well. */
function pushProblem({ inside_gateways: gateways }: Config['push']): string | undefined {
  const at = gateways.findIndex((text) => !/^https?:/.test(text) || URL.parse(text)?.origin !== text);
  return at < 0
    ? undefined
    : `/push/inside_gateways/${at}: an origin, as in http://192.168.0.7:8080 or https://gateway.lan`;
}

/** Whether it is an IP address, or a network as an address and the number of its first bits. */
function isNetwork(text: string): boolean {
  const [, address = '', bits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const family = isIP(address);
  return family !== 0 && (bits === undefined || Number(bits) <= (family === 4 ? 32 : 128));
}

/** What a schema cannot say of serial links and the peers on them; undefined where all is well. */
function serialProblem(links: readonly SerialConfig[], peers: readonly PeerConfig[]): string | undefined {
  const byName = new Map(links.map((link) => [serialLink(link.name), link]));
  if (byName.size < links.length) return '/coap/serial: two links have the same name';
  for (const [i, { framing, ax25, baud, rate }] of links.entries()) {
    if (ax25 !== undefined && framing !== 'kiss')
      return `/coap/serial/${i}/ax25: it needs the framing "kiss"`;
    if (rate !== undefined && rate > lineRate(baud))
      return `/coap/serial/${i}/rate: the line carries ${Math.floor(lineRate(baud))} bits a second`;
  }
  for (const [i, { address }] of peers.entries()) {
    const where = `/federation/peers/${i}/address`;
    const parsed = parsePeerAddress(address);
    if (!parsed.ok) return `${where}: ${parsed.problem}`;
    if (parsed.value === undefined || !parsed.value.link.startsWith(serialLink(''))) continue;
    const link = byName.get(parsed.value.link);
    if (link === undefined) return `${where}: no serial link has that name`;
    const station = parsed.value.address;
    const named = station !== parsed.value.link;
    if (link.ax25 === undefined && named) return `${where}: only links with AX.25 have callsigns`;
    if (link.ax25 !== undefined && (!named || parseCallsign(station) !== station))
      return `${where}: after the link's name comes a callsign in capitals, as in /N0CALL-2`;
    if (link.ax25?.callsign === station) return `${where}: that is the callsign of this end`;
  }
  return undefined;
}

/** `registration: open` is short for its mode alone. */
function withModeSpelledOut(given: PartialConfig): PartialConfig {
  const { registration } = given;
  return typeof registration === 'string' ? { ...given, registration: { mode: registration } } : given;
}

function merge<T>(defaults: T, given: unknown): T {
  if (given === undefined) return defaults;
  if (!isPlainObject(defaults) || !isPlainObject(given)) return given as T;
  const merged: Record<string, unknown> = { ...defaults };
  for (const [key, value] of Object.entries(given)) merged[key] = merge(merged[key], value);
  return merged as T;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(freeze);
  return Object.freeze(value);
}
