import { join } from 'node:path';
import { startVitest } from 'vitest/node';

const ROOT = join(import.meta.dirname, '../..');

/** A bug, and the test that is to find it. */
export interface PlantedBug {
  /** What it makes of the program. */
  readonly name: string;
  /** The file that it is in, from the root of the project. */
  readonly file: string;
  /** The text that stands there once, and what stands there instead. */
  readonly correct: string;
  readonly wrong: string;
  /** The file of the test, from the root of the project. */
  readonly test: string;
  /** The title of the test, or how it begins. */
  readonly title: string;
  /** What the failure has to say; left out: any failure does. */
  readonly says?: string;
}

export interface TestRun {
  readonly passed: number;
  readonly failed: readonly { readonly title: string; readonly message: string }[];
  /** The bug's place was found and changed. */
  readonly isPlanted: boolean;
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/**
 * Runs tests of one file on the sources, in which a bug is planted as they are loaded: nothing is written to the disk.
 * @param seeds for simulations, `first-last`
 */
export async function runTests(
  test: string,
  titles: readonly string[],
  seeds: string,
  bug?: PlantedBug,
): Promise<TestRun> {
  let isPlanted = false;
  const vitest = await startVitest(
    [test],
    {
      config: false,
      include: [test],
      root: ROOT,
      watch: false,
      // What was transformed without the bug is of no use.
      fsModuleCache: false,
      silent: true,
      reporters: [{}],
      maxWorkers: 1,
      bail: 1,
      testTimeout: 600_000,
      testNamePattern: titles.map(escaped).join('|'),
      env: { RAVINE_SEEDS: seeds },
    },
    {
      plugins: [
        {
          name: 'planted bug',
          enforce: 'pre',
          transform(code: string, id: string) {
            if (bug === undefined || id !== join(ROOT, bug.file)) return undefined;
            const parts = code.split(bug.correct);
            if (parts.length !== 2) throw new Error(`${parts.length - 1} times in ${bug.file}: ${bug.correct}`);
            isPlanted = true;
            return parts.join(bug.wrong);
          },
        },
      ],
    },
  );
  const failed: { title: string; message: string }[] = [];
  let passed = 0;
  for (const module of vitest.state.getTestModules()) {
    for (const error of module.errors()) failed.push({ title: '', message: error.message });
    for (const test of module.children.allTests()) {
      const { state, errors = [] } = test.result();
      if (state === 'passed') passed++;
      if (state === 'failed') failed.push({ title: test.fullName, message: errors.map(messagesOf).join('\n') });
    }
  }
  await vitest.close();
  // A failing run is what is asked for here.
  process.exitCode = 0;
  return { passed, failed, isPlanted };
}

function messagesOf(error: unknown): string {
  const { message, cause } = error as { readonly message: string; readonly cause?: unknown };
  return cause === undefined ? message : `${message}: ${messagesOf(cause)}`;
}
