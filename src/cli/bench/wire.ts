import type { MeasureOptions, Row, Scenario } from './scenario.ts';

/** One file for each; only what is asked for is loaded. */
export const SCENARIOS: Readonly<Record<string, () => Promise<Scenario>>> = {
  W1: async () => (await import('./scenarios/w1.ts')).w1,
  W2: async () => (await import('./scenarios/w2.ts')).w2,
  W3: async () => (await import('./scenarios/w3.ts')).w3,
  W4: async () => (await import('./scenarios/w4.ts')).w4,
  W5: async () => (await import('./scenarios/w5.ts')).w5,
  W6: async () => (await import('./scenarios/w6.ts')).w6,
  W7: async () => (await import('./scenarios/w7.ts')).w7,
  W8: async () => (await import('./scenarios/w8.ts')).w8,
  W9: async () => (await import('./scenarios/w9.ts')).w9,
  W10: async () => (await import('./scenarios/w10.ts')).w10,
};

/**
 * Measures scenarios one after another, each with servers of its own.
 * @param ids of SCENARIOS
 * @param progress is told which one begins
 */
export async function measureWire(
  ids: readonly string[],
  options: MeasureOptions,
  progress: (id: string) => void = () => undefined,
): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const id of ids) {
    progress(id);
    const load = SCENARIOS[id];
    if (load === undefined) throw new Error(`There is no scenario ${id}.`);
    rows.push(...(await (await load())(options)));
  }
  return rows;
}
