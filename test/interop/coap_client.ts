import { execFile, spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** libcoap's command-line client, Debian: libcoap3-bin. */
export const COAP_CLIENT = 'coap-client-notls';
export const hasCoapClient = spawnSync(COAP_CLIENT).error === undefined;

export interface CoapAnswer {
  /** The error code that it prints, such as `4.01`; undefined for a success. */
  readonly code: string | undefined;
  readonly body: Uint8Array;
  /** Everything printed; an error's payload is in it. */
  readonly said: string;
}

/**
 * Runs the client; the last argument is the path.
 * @param base such as `coap://127.0.0.1:5683`
 * @param folder for its output file
 */
export function coapClient(base: string, folder: string, ...args: string[]): Promise<CoapAnswer> {
  const output = join(folder, 'out');
  rmSync(output, { force: true });
  const path = args.pop()!;
  return new Promise((resolve, reject) => {
    const all = ['-B', '30', '-o', output, ...args, `${base}${path}`];
    execFile(COAP_CLIENT, all, { encoding: 'buffer' }, (error, stdout, stderr) => {
      if (error !== null) return reject(error);
      const said = Buffer.concat([stdout, stderr]).toString('latin1');
      const code = /\b([45]\.\d\d)\b/.exec(said)?.[1];
      let body: Uint8Array = new Uint8Array(0);
      try {
        body = new Uint8Array(readFileSync(output));
      } catch {
        // No file is written for an error: its payload is printed.
      }
      resolve({ code, body, said });
    });
  });
}
