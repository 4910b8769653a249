import { describe, expect, it } from 'vitest';
import { type Random, seededRandom } from '../../../src/base/random.ts';
import type { DeviceId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { ALICE, LAPTOP, nextOf, numbersIn, PHONE, ToDeviceWorld } from './world.ts';

const SEEDS = [1, 2, 3];
const STEPS = 100;
const DEVICES = [PHONE, LAPTOP] as const;

/** What a device holds that applies each answer that reaches it, and forgets all others. */
class ModelDevice {
  readonly got: number[] = [];
  readonly data = new Map<string, string>();
  since: string | undefined;

  apply(answer: JsonObject): void {
    this.got.push(...numbersIn(answer));
    const { events } = answer.account_data as {
      events: { type: string; content: { mark: string } }[];
    };
    for (const { type, content } of events) this.data.set(type, content.mark);
    this.since = nextOf(answer);
  }
}

/**
 * Messages in bursts, of sizes that the batch is cut by number or by bytes, among other things that /sync tells; answers that get
 * lost, syncs of old positions, restarts. What a device has to have is known from what was sent.
 */
class Run {
  readonly counts = { lost: 0, cut: 0, restarts: 0, old: 0, repeated: 0 };
  readonly #world: ToDeviceWorld;
  readonly #random: Random;
  readonly #devices = new Map(DEVICES.map((device) => [device, new ModelDevice()]));
  /** By device, in the order in which it was sent. */
  readonly #sent = new Map<DeviceId, number[]>(DEVICES.map((device) => [device, []]));
  readonly #data = new Map<string, string>();
  #n = 0;

  constructor(world: ToDeviceWorld, seed: number) {
    this.#world = world;
    this.#random = seededRandom(seed);
  }

  #below(n: number): number {
    return Math.floor(this.#random.fraction() * n);
  }

  async step(): Promise<void> {
    const kind = this.#below(10);
    if (kind < 3) await this.#burst();
    else if (kind < 4) await this.#mark();
    else if (kind < 9) await this.#sync(DEVICES[this.#below(2)]!);
    else {
      this.#world.restart();
      this.counts.restarts++;
    }
  }

  async #burst(): Promise<void> {
    const length = [1, 3, 150][this.#below(3)]!;
    const padding = 'x'.repeat([10, 10, 20_000][this.#below(3)]!);
    for (let at = 0; at < length; at++) {
      const n = this.#n++;
      const devices = [[PHONE], [LAPTOP], ['*']][this.#below(3)]!;
      const messages = { [ALICE]: Object.fromEntries(devices.map((device) => [device, { n, padding }])) };
      await this.#world.send(messages, `n${n}`);
      if (this.#below(10) === 0) {
        await this.#world.send(messages, `n${n}`);
        this.counts.repeated++;
      }
      for (const device of devices[0] === '*' ? DEVICES : devices)
        this.#sent.get(device as DeviceId)!.push(n);
    }
  }

  async #mark(): Promise<void> {
    const [type, mark] = [`type${this.#below(5)}`, String(this.#n++)];
    await this.#world.accountData.put(ALICE, { room: undefined, type }, { mark });
    this.#data.set(type, mark);
  }

  async #sync(device: DeviceId): Promise<void> {
    const model = this.#devices.get(device)!;
    const before = model.since;
    const answer = await this.#world.answer(device, before);
    expect(numbersIn(answer).length).toBeLessThanOrEqual(100);
    if (numbersIn(answer).length === 100) this.counts.cut++;
    if (this.#below(4) === 0) {
      this.counts.lost++;
      return;
    }
    model.apply(answer);
    if (before !== undefined && this.#below(6) === 0) {
      // A request that was late: what it is answered reaches nobody, and takes nothing away.
      await this.#world.answer(device, before);
      this.counts.old++;
    }
  }

  /** Lets each device catch up and compares it with what was sent. */
  async end(): Promise<void> {
    for (const [device, model] of this.#devices) {
      for (let empty = 0; empty < 2; ) {
        const answer = await this.#world.answer(device, model.since);
        model.apply(answer);
        empty = numbersIn(answer).length === 0 ? empty + 1 : 0;
      }
      expect(model.got).toEqual(this.#sent.get(device));
      expect(Object.fromEntries(model.data)).toMatchObject(Object.fromEntries(this.#data));
    }
    expect(await this.#world.database.all('SELECT * FROM to_device_messages')).toEqual([]);
  }
}

describe('the inbox of a device', () => {
  it.each(SEEDS)(
    'is told whole, in order, each message once, whatever is lost between (seed %i)',
    async (seed) => {
      const run = new Run(await ToDeviceWorld.open(), seed);
      for (let at = 0; at < STEPS; at++) await run.step();
      await run.end();
      expect(Object.entries(run.counts).filter(([, count]) => count === 0)).toEqual([]);
    },
  );
});
