import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { throwawayAuthority } from '../../src/mesh/authority.ts';
import { completeConfig, type PartialConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { freePort } from '../free_port.ts';

export const SERVERS = ['alpha.test', 'bravo.test'] as const;
export type Server = (typeof SERVERS)[number];
/** How they federate. */
export type Way = 'pipe' | 'https';

const otherOf = (name: Server): Server => (name === 'alpha.test' ? 'bravo.test' : 'alpha.test');

/** Two complete servers on loopback with real sockets and files, that find each other, and can be stopped and started. */
export class TwoServers {
  readonly #folder: string;
  readonly #configs: Readonly<Record<Server, PartialConfig>>;
  readonly #ports: Readonly<Record<Server, number>>;
  readonly #running = new Map<Server, RunningServer>();

  private constructor(
    folder: string,
    configs: Readonly<Record<Server, PartialConfig>>,
    ports: Readonly<Record<Server, number>>,
  ) {
    this.#folder = folder;
    this.#configs = configs;
    this.#ports = ports;
  }

  static async open(way: Way): Promise<TwoServers> {
    const folder = mkdtempSync(join(tmpdir(), 'ravine-two-servers-'));
    const ports = await portsOf('tcp');
    const federation = await (way === 'pipe' ? pipeConfigs() : httpsConfigs(folder));
    const configOf = (name: Server): PartialConfig => {
      const { listen, ...more } = federation[name];
      return {
        ...{ server_name: name, data: join(folder, name), log: { level: 'silent' }, registration: 'open' },
        presence: { enabled: true },
        http: { listen: [{ host: '127.0.0.1', port: ports[name] }, ...listen] },
        ...more,
      };
    };
    const configs = { 'alpha.test': configOf('alpha.test'), 'bravo.test': configOf('bravo.test') };
    const servers = new TwoServers(folder, configs, ports);
    for (const name of SERVERS) await servers.start(name);
    return servers;
  }

  /** For clients; the same after each start. */
  url(name: Server): string {
    return `http://127.0.0.1:${this.#ports[name]}`;
  }

  async start(name: Server): Promise<void> {
    this.#running.set(name, await openServer(completeConfig(this.#configs[name], this.#folder)));
  }

  async stop(name: Server): Promise<void> {
    await this.#running.get(name)?.stop();
    this.#running.delete(name);
  }

  /** How often a server has asked the other one since it was started. */
  asked(name: Server): { readonly pipe: number; readonly https: number } {
    return this.#running.get(name)!.homeserver.counters().federation;
  }

  async close(): Promise<void> {
    await Promise.all(SERVERS.map((name) => this.stop(name)));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

type FederationConfig = PartialConfig & {
  readonly listen: NonNullable<NonNullable<PartialConfig['http']>['listen']>;
};

export const portsOf = async (protocol: 'tcp' | 'udp'): Promise<Readonly<Record<Server, number>>> => ({
  'alpha.test': await freePort(protocol),
  'bravo.test': await freePort(protocol),
});

export async function pipeConfigs(): Promise<Readonly<Record<Server, FederationConfig>>> {
  const ports = await portsOf('udp');
  const configOf = (name: Server): FederationConfig => {
    const address = `ravine://127.0.0.1:${ports[otherOf(name)]}`;
    const peers = [{ server_name: otherOf(name), address, trust: 'tofu' }] as const;
    return { listen: [], coap: { port: ports[name] }, federation: { peers } };
  };
  return { 'alpha.test': configOf('alpha.test'), 'bravo.test': configOf('bravo.test') };
}

async function httpsConfigs(folder: string): Promise<Readonly<Record<Server, FederationConfig>>> {
  const authority = await throwawayAuthority();
  const ports = await portsOf('tcp');
  const file = (name: string, pem: string): string => {
    const path = join(folder, name);
    writeFileSync(path, pem, { mode: 0o600 });
    return path;
  };
  const ca = file('ca.pem', authority.certificate);
  const configOf = async (name: Server): Promise<FederationConfig> => {
    const { cert, key } = await authority.issue(name);
    const tls = { certificate: file(`${name}.pem`, cert), key: file(`${name}.key`, key) };
    return {
      coap: { enabled: false },
      listen: [{ host: '127.0.0.1', port: ports[name], tls }],
      federation: {
        peers: [{ server_name: otherOf(name), address: `https://127.0.0.1:${ports[otherOf(name)]}` }],
        certificate_authorities: [ca],
      },
    };
  };
  return { 'alpha.test': await configOf('alpha.test'), 'bravo.test': await configOf('bravo.test') };
}
