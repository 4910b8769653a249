import { closeSync, openSync, readSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { assert } from '../base/assert.ts';
import { nextTurn } from '../base/turn.ts';
import { MAGIC } from '../compact/mixer/artifact.ts';
import { Model } from '../compact/mixer/model.ts';
import type { LearningModel } from '../exchange/learnt.ts';
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

/** Those that there are. */
export type Models = ReadonlyMap<ModelName, LearningModel>;

/** Models that are offered before they can be used. */
export interface LoadingModels {
  readonly models: Models;
  /** Reads them. Once it is resolved they can be used. */
  load(): Promise<void>;
}

/** Names models at once that take a while to read, and which nobody asks anything before they are. */
export function modelsToLoad(names: Iterable<ModelName>): LoadingModels {
  const models = new Map([...new Set(names)].map((name) => [name, new LoadingModel(name)] as const));
  return {
    models,
    async load() {
      for (const model of models.values()) await model.load();
    },
  };
}

/** Reads models, and waits for all of them. */
export async function loadModels(names: Iterable<ModelName>): Promise<ReadonlyMap<ModelName, Model>> {
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

class LoadingModel implements LearningModel {
  readonly id: number;
  readonly #name: ModelName;
  #model: Model | undefined;

  constructor(name: ModelName) {
    this.#name = name;
    const file = openSync(artifactOf(name), 'r');
    const head = new Uint8Array(MAGIC.length + 1);
    readSync(file, head);
    closeSync(file);
    this.id = head[MAGIC.length]!;
  }

  async load(): Promise<void> {
    const model = await loadModel(this.#name);
    assert(model.id === this.id, 'the id of a model is behind the magic');
    this.#model = model;
  }

  encode(...args: Parameters<Model['encode']>): ReturnType<Model['encode']> {
    return this.#loaded.encode(...args);
  }

  learn(...args: Parameters<Model['learn']>): ReturnType<Model['learn']> {
    return this.#loaded.learn(...args);
  }

  coder(...args: Parameters<Model['coder']>): ReturnType<Model['coder']> {
    return this.#loaded.coder(...args);
  }

  get #loaded(): Model {
    assert(this.#model !== undefined, 'no link is open before its models are loaded');
    return this.#model;
  }
}

const artifactOf = (name: ModelName): URL => new URL(`../compact/artifacts/${name}.mix`, import.meta.url);

async function read(name: ModelName): Promise<Model> {
  const steps = Model.parseInSteps(await readFile(artifactOf(name)));
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
