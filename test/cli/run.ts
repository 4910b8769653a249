import { execFile } from 'node:child_process';
import { resolve } from 'node:path';

const BIN = resolve(import.meta.dirname, '../../bin/ravine.js');

/** What a command came to. */
export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `ravine` to its end, as a process of its own. */
export const ravine = (...args: readonly string[]): Promise<Ran> => ravineIn({}, ...args);

/** The same with more in its environment. */
export const ravineIn = (
  environment: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<Ran> => run(environment, '', args);

/** The same with something on its standard input. */
export const ravineTold = (input: string, ...args: readonly string[]): Promise<Ran> => run({}, input, args);

function run(
  environment: Readonly<Record<string, string>>,
  input: string,
  args: readonly string[],
): Promise<Ran> {
  const env = { ...process.env, ...environment };
  return new Promise((done) => {
    const child = execFile(process.execPath, [BIN, ...args], { env }, (error, stdout, stderr) => {
      done({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
    // Who does not read it may be gone before it is written.
    child.stdin?.on('error', () => undefined).end(input);
  });
}
