import {
  byLockstep,
  bySelectiveRepeat,
  LINKS,
  type Scenario,
  type Transfer,
} from '../coap/selective_measure.ts';

const SEEDS = 40;
const LOSSES = [0, 0.1, 0.3];
const LENGTHS = [4_096, 102_400];

interface Row extends Scenario {
  readonly way: 'lockstep' | 'selective';
  /** Transfers that came to nothing; the figures are of the others. */
  readonly failed: number;
  readonly mean: Transfer;
  readonly p95Seconds: number;
}

function measure(scenario: Scenario, way: Row['way']): Row {
  const one = way === 'lockstep' ? byLockstep : bySelectiveRepeat;
  const all = Array.from({ length: SEEDS }, (_, seed) => one(scenario, seed)).filter((each) => each !== null);
  const mean = (key: keyof Transfer): number =>
    all.reduce((sum, transfer) => sum + transfer[key], 0) / all.length;
  const seconds = all.map((transfer) => transfer.seconds).sort((a, b) => a - b);
  return {
    ...scenario,
    way,
    failed: SEEDS - all.length,
    mean: { datagrams: mean('datagrams'), bytes: mean('bytes'), seconds: mean('seconds') },
    p95Seconds: seconds[Math.ceil(seconds.length * 0.95) - 1]!,
  };
}

/** Large bodies in blocks, one after another and by selective repeat, over emulated links in virtual time. */
export async function run({ json }: { readonly json: boolean }): Promise<boolean> {
  const rows = LENGTHS.flatMap((length) =>
    LINKS.flatMap((link) =>
      LOSSES.flatMap((loss) =>
        (['lockstep', 'selective'] as const).map((way) => measure({ ...link, loss, length }, way)),
      ),
    ),
  );
  if (json) {
    process.stdout.write(`${JSON.stringify(rows)}\n`);
    return true;
  }
  process.stdout.write(
    '| body | bit/s | ms one way | loss | way | failed | datagrams | bytes | mean s | p95 s |\n' +
      '| --: | --: | --: | --: | --- | --: | --: | --: | --: | --: |\n',
  );
  for (const { length, rate, latency, loss, way, failed, mean, p95Seconds } of rows) {
    const cells = [length, rate, latency, `${loss * 100} %`, way, `${failed} of ${SEEDS}`];
    const figures = [mean.datagrams, mean.bytes, mean.seconds, p95Seconds].map((value) => value.toFixed(0));
    process.stdout.write(`| ${[...cells, ...figures].join(' | ')} |\n`);
  }
  return true;
}
