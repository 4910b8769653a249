import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** Ignored by git, gone with `node_modules`. */
const CACHE = resolve(import.meta.dirname, '../../node_modules/.cache/peers');
const INSTALL_TIMEOUT_MS = 100_000;

/** A virtual environment with just what a file of requirements names, hashes included. The first run makes it. */
export class PythonEnvironment {
  readonly #folder: string;
  readonly #requirements: string;

  /** @param name changes with what is installed */
  constructor(name: string, requirements: string) {
    this.#folder = join(CACHE, name);
    this.#requirements = requirements;
  }

  get python(): string {
    return join(this.#folder, 'bin/python');
  }

  /** @returns why it cannot be used; undefined where it can. */
  async install(): Promise<string | undefined> {
    if (existsSync(this.python)) return undefined;
    mkdirSync(CACHE, { recursive: true });
    const fresh = `${this.#folder}.${process.pid}`;
    try {
      await run('python3', '-m', 'venv', fresh);
      const requirements = ['--only-binary', ':all:', '--require-hashes', '-r', this.#requirements];
      const quiet = ['--quiet', '--no-input', '--disable-pip-version-check'];
      await run(join(fresh, 'bin/python'), '-m', 'pip', 'install', ...quiet, ...requirements);
      // Whole or not at all; whoever comes second uses what the first has made.
      if (!existsSync(this.python)) renameSync(fresh, this.#folder);
      return undefined;
    } catch (error) {
      return String(error).split('\n').at(-1)!;
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
  }
}

function run(command: string, ...args: string[]): Promise<void> {
  return new Promise((done, fail) => {
    let said = '';
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: INSTALL_TIMEOUT_MS });
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
    child.once('error', fail);
    child.once('exit', (status) =>
      status === 0 ? done() : fail(new Error(`${command} ${args.join(' ')}: ${said.trim()}`)),
    );
  });
}
