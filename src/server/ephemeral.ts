import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../base/random.ts';
import type { Clock } from '../base/time.ts';
import type { Work } from '../base/work.ts';
import type { Layers } from '../exchange/layers.ts';
import type { ExchangeObservation } from '../exchange/socket_options.ts';
import type { Web } from '../homeserver/media/ports.ts';
import type { PasswordCost } from '../homeserver/passwords.ts';
import type { PushGateway } from '../homeserver/push/push_sender.ts';
import type { Link } from '../link/link.ts';
import type { KeyLog } from '../pipe/key_log.ts';
import { migrate } from '../storage/migrate.ts';
import { IN_CLEAR } from '../storage/sealing.ts';
import { openSqlite } from '../storage/sqlite.ts';
import { completeConfig, type PartialConfig } from './config.ts';
import { createHomeserver, type Homeserver, type ServerLink } from './homeserver.ts';
import { createLogger } from './logger.ts';
import type { Models } from './models.ts';
import { VERSION } from './version.ts';

/** Cheap, since what these servers hold is thrown away. */
const PASSWORD_COST: PasswordCost = { memoryKib: 8, passes: 1, lanes: 1 };

export interface EphemeralOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly work: Work;
  /** An existing folder; the server's data is in a folder of its name there, and is found again by the next start. */
  readonly folder: string;
  readonly config: PartialConfig & { readonly server_name: string };
  readonly link?: Link;
  readonly links?: readonly ServerLink[];
  /** Whether other servers may be reached over HTTPS. */
  readonly https?: boolean;
  readonly web?: Web | undefined;
  readonly certificateAuthorities?: readonly string[];
  readonly observer?: (observation: ExchangeObservation) => void;
  readonly keyLog?: KeyLog;
  readonly layers?: Layers;
  readonly models?: Models;
  readonly pushGateway?: PushGateway;
}

/**
 * A complete homeserver for a simulation, a demonstration or a measurement: everything is as in production but for who
 * owns clock, dice and link, open registration, users without limits, cheap passwords, and a disk that is never synced.
 */
export async function startEphemeral(options: EphemeralOptions): Promise<Homeserver> {
  const {
    clock,
    random,
    work,
    folder,
    config,
    link,
    links,
    https = false,
    web,
    certificateAuthorities,
    observer,
    keyLog,
    layers,
    models,
    pushGateway,
  } = options;
  const data = join(folder, config.server_name);
  mkdirSync(data, { recursive: true });
  const path = join(data, 'ravine.db');
  migrate(path);
  const database = openSqlite({ path, durability: 'off' });
  const homeserver = await createHomeserver({
    config: completeConfig(
      { registration: 'open', limits: null, log: { level: 'silent' }, ...config, data },
      folder,
    ),
    clock,
    random,
    work,
    database,
    sealing: IN_CLEAR,
    link,
    links,
    https,
    web,
    version: VERSION,
    log: createLogger('silent'),
    passwordCost: PASSWORD_COST,
    ...(certificateAuthorities && { certificateAuthorities }),
    ...(observer && { observer }),
    ...(keyLog && { keyLog }),
    ...(layers && { layers }),
    ...(models && { models }),
    ...(pushGateway && { pushGateway }),
  });
  return {
    ...homeserver,
    async stop() {
      await homeserver.stop();
      await database.close();
    },
  };
}
