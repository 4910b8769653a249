import type { ChildProcess } from 'node:child_process';

/** What a process has printed so far. */
export interface Output {
  text(): string;
  /** The first group of the first match, once there is one. Rejects where the process ends before. */
  until(pattern: RegExp): Promise<string>;
}

/** Collects a process's standard output and error. */
export function outputOf(child: ChildProcess): Output {
  let text = '';
  let look: () => void = () => undefined;
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      look();
    });
  }
  return {
    text: () => text,
    until: (pattern) =>
      new Promise((resolve, reject) => {
        look = () => {
          const match = pattern.exec(text);
          if (match !== null) resolve(match[1] ?? match[0]);
        };
        child.once('exit', () => reject(new Error(`the process ended: ${text}`)));
        look();
      }),
  };
}
