import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RavineProcess } from './ravine_process.ts';
import { pipeConfigs, portsOf, SERVERS, type Server } from './two_servers.ts';

/**
 * Two servers in processes of their own, that can be killed and started. They reach each other through a pipe only: no
 * port listens for HTTPS.
 */
export class TwoProcesses {
  readonly #folder: string;
  readonly #ports: Readonly<Record<Server, number>>;
  readonly #processes: Readonly<Record<Server, RavineProcess>>;

  private constructor(
    folder: string,
    ports: Readonly<Record<Server, number>>,
    processOf: (name: Server) => RavineProcess,
  ) {
    this.#folder = folder;
    this.#ports = ports;
    this.#processes = { 'alpha.test': processOf('alpha.test'), 'bravo.test': processOf('bravo.test') };
  }

  static async open(): Promise<TwoProcesses> {
    const folder = mkdtempSync(join(tmpdir(), 'ravine-two-processes-'));
    const ports = await portsOf('tcp');
    const pipes = await pipeConfigs();
    const servers = new TwoProcesses(folder, ports, (name) => {
      const { listen: _, ...pipe } = pipes[name];
      const http = { listen: [{ host: '127.0.0.1', port: ports[name] }] };
      return new RavineProcess(join(folder, name), { server_name: name, http, ...pipe });
    });
    await Promise.all(SERVERS.map((name) => servers.start(name)));
    return servers;
  }

  /** For clients; the same after each start. */
  url(name: Server): string {
    return `http://127.0.0.1:${this.#ports[name]}`;
  }

  start(name: Server): Promise<void> {
    return this.#processes[name].start();
  }

  /** Without a chance to save anything. */
  kill(name: Server): Promise<void> {
    return this.#processes[name].end('SIGKILL');
  }

  async close(): Promise<void> {
    await Promise.all(SERVERS.map((name) => this.#processes[name].end('SIGTERM')));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
