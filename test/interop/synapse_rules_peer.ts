import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { EventId } from '../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { type Event, type StateMap, splitStateKey, stateKey } from '../../src/matrix/pdu.ts';
import type { ResolvedEvent } from '../../src/matrix/state_resolution.ts';
import { PeerProcess } from './peer_process.ts';
import { PythonEnvironment } from './python_environment.ts';

const HERE = import.meta.dirname;
export const synapseEnvironment = new PythonEnvironment(
  'synapse-1.163.2',
  join(HERE, 'synapse_requirements.txt'),
);

/** What Synapse makes of a PDU; base64 without padding. */
export interface Identified {
  readonly id: string;
  readonly content_hash: string;
  readonly reference_hash: string;
  readonly redacted: JsonObject;
  /** By the server `domain` and the key `ed25519:1` of the appendices' test vectors. */
  readonly signature: string;
  readonly error?: string;
}

export interface Checked {
  readonly allowed: boolean;
  readonly error?: string;
}

/** Synapse's own modules in a Python of their own, asked one question after another. */
export class SynapseRules {
  readonly #process = PeerProcess.start(synapseEnvironment.python, join(HERE, 'synapse_rules_peer.py'));
  readonly #waiting: ((answer: JsonValue) => void)[] = [];

  constructor() {
    createInterface({ input: this.#process.child.stdout! }).on('line', (line) =>
      this.#waiting.shift()?.(JSON.parse(line) as JsonValue),
    );
  }

  async identify(version: string, pdus: readonly unknown[]): Promise<readonly Identified[]> {
    return (await this.#ask({ ask: 'identify', version, pdus })) as unknown as readonly Identified[];
  }

  /** The room that the next questions are about. */
  async room(version: string, events: Iterable<ResolvedEvent>): Promise<JsonValue> {
    const pdus = [...events].map(({ event: { pdu }, rejected }) => ({ pdu, rejected }));
    return this.#ask({ ask: 'room', version, pdus });
  }

  /** Whether events are allowed in a state, or, where it is undefined, by their own auth events. */
  async auth(
    checks: readonly { readonly event: Event; readonly state: readonly EventId[] | undefined }[],
  ): Promise<readonly Checked[]> {
    const asked = checks.map(({ event, state = null }) => ({ event: event.id, state }));
    return (await this.#ask({ ask: 'auth', checks: asked })) as unknown as readonly Checked[];
  }

  async resolve(sets: readonly StateMap[]): Promise<StateMap> {
    const lists = sets.map((set) =>
      [...set].map(([place, id]) => {
        const { type, key } = splitStateKey(place);
        return [type, key, id];
      }),
    );
    const answer = await this.#ask({ ask: 'resolve', sets: lists });
    if (!Array.isArray(answer)) throw new Error(JSON.stringify(answer));
    const entries = answer as [string, string, EventId][];
    return new Map(entries.map(([type, key, id]) => [stateKey(type, key), id]));
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }

  #ask(question: object): Promise<JsonValue> {
    return new Promise((resolve, fail) => {
      this.#waiting.push(resolve);
      this.#process.child.once('exit', () =>
        fail(new Error(`Synapse ended: ${this.#process.output.text()}`)),
      );
      this.#process.child.stdin!.write(`${JSON.stringify(question)}\n`);
    });
  }
}
