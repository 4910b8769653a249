import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { seededRandom } from '../../src/base/random.ts';
import { systemClock } from '../../src/base/time.ts';
import { EndpointUnderFire } from '../coap/endpoint_under_fire.ts';
import { PdusUnderFire } from '../compact/pdus_under_fire.ts';
import { ValuesUnderFire } from '../compact/values_under_fire.ts';
import { ContentsUnderFire } from '../exchange/contents_under_fire.ts';
import { SocketUnderFire } from '../exchange/socket_under_fire.ts';

/** What the heap may have grown by between a tenth of the datagrams and all of them. */
const MOST_GROWTH_BYTES = 4 * 2 ** 20;
const STEPS = 10;
/** For each value that goes through the codec, so many changed encodings are read. */
const MUTATIONS_A_VALUE = 1 / 10;
/** Whole requests and events take longer: there are so many for each value, and twice as many requests that are changed. */
const CONTENTS_A_VALUE = 1 / 20;
const PDUS_A_VALUE = 1 / 50;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function heapBytes(): number {
  collect();
  collect();
  return process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
}

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

/**
 * Shoots random and mutated datagrams, half of them at a CoAP endpoint and half through the link of a whole exchange
 * socket; before that, as many values through the compact codec, and a tenth as many mutated encodings at it; requests and
 * answers in every form of containers, and records with changes, half of them inside valid tags; and events.
 * @returns whether memory has not grown; whatever else may happen is thrown
 */
export async function run({
  json,
  datagrams,
  seed,
}: {
  readonly json: boolean;
  readonly datagrams: number;
  readonly seed: number;
}): Promise<boolean> {
  const values = new ValuesUnderFire(seededRandom(seed + 2));
  const begin = systemClock.monotonic();
  for (let n = 0; n < datagrams; n++) values.shoot();
  for (let n = 0; n < datagrams * MUTATIONS_A_VALUE; n++) values.mutate();
  const valuesEnd = systemClock.monotonic();
  const contents = new ContentsUnderFire(seededRandom(seed + 3));
  for (let n = 0; n < datagrams * CONTENTS_A_VALUE; n++) {
    contents.shoot();
    for (let more = 0; more < 2; more++) contents.mutate();
  }
  const contentsEnd = systemClock.monotonic();
  const pdus = new PdusUnderFire(seededRandom(seed + 4));
  for (let n = 0; n < datagrams * PDUS_A_VALUE; n++) {
    pdus.shoot();
    pdus.mutate();
  }
  const endpoint = new EndpointUnderFire(seededRandom(seed));
  const socket = new SocketUnderFire(seededRandom(seed + 1));
  const start = systemClock.monotonic();
  const heaps: number[] = [];
  const tell = (line: string): void => {
    if (!json) process.stdout.write(`${line}\n`);
  };
  tell(`seed ${seed}`);
  const took = (from: number, to: number): string => `${((to - from) / 1000).toFixed(1)} s`;
  tell(`compact values: ${told(values.counts)}, ${took(begin, valuesEnd)}`);
  tell(`requests and answers: ${told(contents.counts)}, ${took(valuesEnd, contentsEnd)}`);
  tell(`events: ${told(pdus.counts)}, ${took(contentsEnd, start)}`);
  for (let step = 1; step <= STEPS; step++) {
    const half = Math.ceil(datagrams / STEPS / 2);
    for (let n = 0; n < half; n++) endpoint.shoot();
    for (let n = 0; n < half; n++) await socket.shoot();
    heaps.push(heapBytes());
    const shots = step * half * 2;
    const seconds = (systemClock.monotonic() - start) / 1000;
    tell(
      `${shots} datagrams, ${seconds.toFixed(1)} s, ${Math.round(shots / seconds)} a second, heap ${mebibytes(heaps.at(-1)!)} MiB, endpoint ${told(endpoint.held)}`,
    );
  }
  const growth = heaps.at(-1)! - heaps[0]!;
  const { counters } = endpoint;
  const drained = endpoint.drain();
  await socket.drain();
  const left = Object.values(endpoint.held).reduce((sum, count) => sum + count, 0);
  const kept = growth <= MOST_GROWTH_BYTES && left === 0 && drained.started === drained.ended;
  const result = {
    kept,
    seed,
    heaps,
    growth,
    left,
    drained,
    served: socket.served,
    counters,
    values: values.counts,
    contents: contents.counts,
    pdus: pdus.counts,
  };
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
  tell(`endpoint: ${told(counters)}`);
  tell(`socket: ${socket.served} served, ${told(socket.counters.plain)}`);
  tell(
    `growth after the first tenth: ${mebibytes(growth)} MiB of ${mebibytes(MOST_GROWTH_BYTES)}; left after all has expired: ${left}; requests ${drained.started}, ended ${drained.ended}`,
  );
  return kept;
}

const told = (counts: object): string =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ');
