import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { systemRandom } from '../base/random.ts';
import { systemClock } from '../base/time.ts';
import { nextTurn } from '../base/turn.ts';
import { Work } from '../base/work.ts';
import { type HttpDoor, openHttpDoor, type Upgrader } from '../doors/https.ts';
import type { ExchangeObservation } from '../exchange/socket_options.ts';
import { Purging } from '../homeserver/rooms/purging.ts';
import type { Link } from '../link/link.ts';
import { webSocketUpgrader } from '../link/websocket_server.ts';
import type { KeyLog } from '../pipe/key_log.ts';
import type { Database } from '../storage/database.ts';
import { migrate } from '../storage/migrate.ts';
import { openSqlite } from '../storage/sqlite.ts';
import { Certificates, readPem, readTls } from './certificates.ts';
import type { Config, HttpListener } from './config.ts';
import { createHomeserver, type Homeserver } from './homeserver.ts';
import { openLinks } from './links.ts';
import { serverLog } from './logger.ts';
import { type ModelName, modelsFor, modelsToLoad } from './models.ts';
import { openSealing } from './sealing.ts';
import { VERSION } from './version.ts';

/** A homeserver with its real sockets, files and clock. */
export interface RunningServer {
  readonly homeserver: Homeserver;
  /** What was bound, in the configuration's order. */
  readonly http: readonly { readonly host: string; readonly port: number; readonly tls: boolean }[];
  /** The UDP address that was bound, as `host:port`; undefined where CoAP is off. */
  readonly udp: string | undefined;
  /** Resolves when the links are open, too: they wait for their models. Rejects where one of these cannot be read. */
  readonly ready: Promise<void>;
  /**
   * Reads the certificates again and presents them to connections from now on, as it is done when their files change.
   * @throws ConfigError where some cannot be used: those stay as they were
   */
  reloadCertificates(): void;
  /** Lets requests end and closes everything. */
  stop(): Promise<void>;
}

/** Owner only: the database holds keys. */
const FOLDER_MODE = 0o700;

export interface OpenOptions {
  /** 32 bytes under which secrets are sealed in the database. */
  readonly sealKey?: Uint8Array | undefined;
  /** Told of every datagram. */
  readonly observer?: ((observation: ExchangeObservation) => void) | undefined;
  /** Told what opens the records of a capture. */
  readonly keyLog?: KeyLog | undefined;
  /** What comes between the server and its database or its links, for tests. */
  readonly decorate?: {
    readonly database: (database: Database) => Database;
    readonly link: (link: Link) => Link;
  };
}

/**
 * Opens everything that a configuration names, and serves: over HTTP at once, on other links a little later (`ready`).
 * @throws ConfigError, MigrationError, SealingError, or the system's error where an address cannot be bound
 */
export async function openServer(
  config: Config,
  log: Logger = serverLog(config),
  { sealKey, decorate, observer, keyLog }: OpenOptions = {},
): Promise<RunningServer> {
  mkdirSync(config.data, { recursive: true, mode: FOLDER_MODE });
  const opened: { close(): Promise<void> }[] = [];
  const closeAll = async (): Promise<void> => {
    for (const resource of opened.splice(0).reverse()) await resource.close();
  };
  try {
    const path = join(config.data, 'ravine.db');
    migrate(path, undefined, (what, done, of) =>
      log.info({ what, done, of }, 'the database is being converted'),
    );
    const sealing = openSealing(path, sealKey, systemRandom);
    const database = openSqlite({ path, durability: 'full', gather: nextTurn, clock: systemClock });
    opened.push(database);
    const authorities = config.federation.certificate_authorities.map(readPem);
    const models = modelsToLoad(modelsOf(config));
    const modelsReady = Promise.withResolvers<void>();
    // Whoever opens the server is told; a link that stays closed need not tell it as well.
    modelsReady.promise.catch(() => undefined);
    const links = config.coap.enabled ? await openLinks(config, authorities, log) : undefined;
    if (links !== undefined) opened.push(links);
    const homeserver = await createHomeserver({
      config,
      clock: systemClock,
      random: systemRandom,
      work: new Work(),
      database: decorate?.database(database) ?? database,
      sealing,
      links: links?.links.map((one) => ({ ...one, link: decorate?.link(one.link) ?? one.link })),
      https: true,
      certificateAuthorities: authorities,
      publicBaseUrl: config.http.public_base_url ?? defaultBaseUrl(config),
      version: VERSION,
      log,
      turn: nextTurn,
      models: models.models,
      modelsReady: modelsReady.promise,
      ...(observer && { observer }),
      ...(keyLog && { keyLog }),
    });
    opened.push({ close: () => homeserver.stop() });
    const purging = new Purging({
      ...{ database, writer: homeserver.roomWriter, clock: systemClock, turn: nextTurn, log },
    });
    purging.start();
    homeserver.mediaKeeper.start();
    opened.push({ close: () => homeserver.mediaKeeper.stop() });
    opened.push({ close: () => purging.stop() });
    const webSocket = links?.webSocket;
    const certificates = new Certificates({ clock: systemClock, log });
    opened.push({ close: async () => certificates.close() });
    const upgrader = webSocket && webSocketUpgrader(webSocket);
    const doors = await openDoors(config, homeserver, upgrader, opened, certificates);
    // Before the doors, which wait for their connections.
    if (webSocket !== undefined) opened.push(webSocket);
    // HTTP is served already: reading them takes longer than all the rest.
    modelsReady.resolve(models.load());

    return {
      ready: modelsReady.promise,
      homeserver,
      http: doors.map(({ door, listener }) => ({
        host: door.host,
        port: door.port,
        tls: listener.tls !== undefined,
      })),
      udp: links?.udp,
      reloadCertificates: () => certificates.reload(),
      stop: closeAll,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** The models that any link of a configuration needs. */
function modelsOf({ coap: { enabled, link, serial, pipe } }: Config): readonly ModelName[] {
  if (!enabled) return [];
  // A serial line always has a rate, a WebSocket never.
  return modelsFor(pipe, { rate: serial.length > 0 ? 0 : link.rate });
}

interface OpenDoor {
  readonly door: HttpDoor;
  readonly listener: HttpListener;
}

async function openDoors(
  config: Config,
  homeserver: Homeserver,
  upgrader: Upgrader | undefined,
  opened: { close(): Promise<void> }[],
  certificates: Certificates,
): Promise<readonly OpenDoor[]> {
  const doors: OpenDoor[] = [];
  for (const listener of config.http.listen) {
    const { host, port, tls: files } = listener;
    const tls = files && readTls(files);
    const door = await openHttpDoor(homeserver.app, { host, port, tls, clock: systemClock, upgrader });
    opened.push(door);
    if (files !== undefined && tls !== undefined) certificates.guard(door, files, tls);
    doors.push({ door, listener });
  }
  return doors;
}

/** The first listener, as a client on this machine reaches it; undefined where there is none. */
function defaultBaseUrl({ http }: Config): string | null {
  const [first] = http.listen;
  if (first === undefined || first.port === 0) return null;
  const host = first.host.includes(':') ? `[${first.host}]` : first.host;
  return `${first.tls === undefined ? 'http' : 'https'}://${host}:${first.port}`;
}
