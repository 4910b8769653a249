import { readFile } from 'node:fs/promises';
import { nextTurn } from '../base/turn.ts';
import { Model } from '../compact/mixer/model.ts';
import type { LinkProfile } from '../link/link.ts';
import type { Config } from './config.ts';

/** The artifacts of `npm run train`. */
export type ModelName = 'large' | 'small';

/** Which models a configuration asks for on a link, best first. Where the rate is not known bytes count less than work. */
export function modelsFor(
  { models }: Pick<Config['coap']['pipe'], 'models'>,
  { rate }: Pick<LinkProfile, 'rate'>,
): readonly ModelName[] {
  if (models === 'off' || (models === 'auto' && rate === null)) return [];
  return models === 'small' ? ['small'] : ['large', 'small'];
}

/** Those that were loaded. */
export type Models = ReadonlyMap<ModelName, Model>;

/** Reads models, and waits for all of them. */
export async function loadModels(names: Iterable<ModelName>): Promise<Models> {
  const unique = [...new Set(names)];
  return new Map(await Promise.all(unique.map(async (name) => [name, await loadModel(name)] as const)));
}

/** A model never changes, so that all servers of a process may have the same one. */
const loaded = new Map<ModelName, Promise<Model>>();

/** Reads a model, in steps between which others work: the large one takes a tenth of a second and more. */
export function loadModel(name: ModelName): Promise<Model> {
  const known = loaded.get(name) ?? read(name);
  loaded.set(name, known);
  return known;
}

async function read(name: ModelName): Promise<Model> {
  const file = new URL(`../compact/artifacts/${name}.mix`, import.meta.url);
  const steps = Model.parseInSteps(await readFile(file));
  for (;;) {
    const { done, value } = steps.next();
    if (done !== true) {
      await nextTurn();
      continue;
    }
    if (!value.ok) throw new Error(`the model "${name}" cannot be read: ${value.problem}`);
    return value.value;
  }
}
