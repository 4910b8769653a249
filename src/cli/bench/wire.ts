import { ALL_LAYERS, type Layers } from '../../exchange/layers.ts';
import type { MeasureOptions, Row, Scenario, Step, StepName } from './scenario.ts';
import { withLayers } from './world.ts';

const NO_LAYERS: Layers = { flate: false, models: false, handles: false, forms: false };
/** One layer more from step to step, but for the last one, which is what is measured in any case. */
const STEPS: readonly { readonly name: StepName; readonly layers: Layers }[] = [
  { name: 'raw', layers: NO_LAYERS },
  { name: 'flate', layers: { ...NO_LAYERS, flate: true } },
  { name: 'models', layers: { ...NO_LAYERS, flate: true, models: true } },
  { name: 'handles', layers: { ...ALL_LAYERS, forms: false } },
];

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

export interface WireOptions extends MeasureOptions {
  /** Whether each is measured with fewer layers as well; left out: not. */
  readonly steps?: boolean;
}

/**
 * Measures scenarios one after another, each with servers of its own.
 * @param ids of SCENARIOS
 * @param progress is told which one begins
 */
export async function measureWire(
  ids: readonly string[],
  options: WireOptions,
  progress: (id: string) => void = () => undefined,
): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const id of ids) {
    progress(id);
    const load = SCENARIOS[id];
    if (load === undefined) throw new Error(`There is no scenario ${id}.`);
    const scenario = await load();
    const measured = await scenario(options);
    rows.push(...(options.steps === true ? await withSteps(scenario, measured, options) : measured));
  }
  return rows;
}

/** Measures the same with fewer layers, without HTTPS and with few texts: those are told of the whole only. */
async function withSteps(
  scenario: Scenario,
  rows: readonly Row[],
  { texts }: MeasureOptions,
): Promise<readonly Row[]> {
  const steps = new Map<string, Step[]>();
  for (const { name, layers } of STEPS) {
    const less = await withLayers(layers, () => scenario({ https: false, texts: texts.slice(0, 1) }));
    for (const { id, bytes } of less)
      if (bytes !== undefined) steps.set(id, [...(steps.get(id) ?? []), { name, bytes }]);
  }
  return rows.map((row) =>
    row.bytes === undefined
      ? row
      : { ...row, steps: [...(steps.get(row.id) ?? []), { name: 'forms', bytes: row.bytes }] },
  );
}
