import { Command } from 'commander';
import type { LinkObservation } from '../link/simulated.ts';
import { type DemoOptions, type PhaseCost, runDemo } from '../mesh/demo.ts';
import { type Baseline, httpsBaseline } from '../mesh/https_baseline.ts';
import { integer, probability } from './arguments.ts';

type Options = Omit<DemoOptions, 'observe' | 'realTime'> & { readonly realTime?: true };

/** What each phase is, for the table. */
const MEANING = {
  invite: 'handshake, keys, invite',
  join: 'join, room state',
  message: '"Hello World"',
} as const;

export function demoCommand(): Command {
  return new Command('demo')
    .description('Two complete servers on an emulated slow link: an invite, a join, and one "Hello World".')
    .option('--rate <bits>', 'bits a second in each direction, on an Ethernet wire', integer(10, 1e9), 100)
    .option('--latency <ms>', 'one way, milliseconds', integer(0, 600_000), 1000)
    .option('--loss <probability>', 'of each datagram, 0 to 1', probability, 0)
    .option('--seed <number>', 'the same seed gives the same bytes', integer(0, 2 ** 31 - 1), 1)
    .option('--real-time', 'take as long as it takes, instead of virtual time')
    .addHelpText(
      'after',
      `
Prints each datagram (when it began to leave, direction, what it is, bytes on an Ethernet wire: 42 for Ethernet, IPv4 and
UDP, and the payload), then the totals beside what HTTPS and JSON take for the same conversation, measured on this
machine.

Examples:
  ravine demo
  ravine demo --rate 1200 --latency 300 --loss 0.1 --seed 7
  ravine demo --rate 9600 --real-time`,
    )
    .action(demo);
}

async function demo(options: Options): Promise<void> {
  const { rate, latency, loss, seed, realTime } = options;
  console.log(
    `alpha <-> bravo: ${rate} bit/s each way, ${latency} ms, loss ${loss * 100} %, seed ${seed}, ${realTime ? 'real' : 'virtual'} time\n`,
  );
  let phase: string | undefined;
  const costs = await runDemo({
    ...options,
    realTime: realTime ?? false,
    observe(observation, of) {
      const line = describe(observation);
      if (line === undefined) return;
      if (of !== phase) console.log(`-- ${of}`);
      phase = of;
      console.log(line);
    },
  });
  console.log(`\nThe same over HTTPS and JSON, measured on 127.0.0.1 ...\n`);
  console.log(table(costs, await httpsBaseline()));
}

function describe({ at, from, to, wire, label, fate }: LinkObservation): string | undefined {
  if (fate !== 'sent' && fate !== 'lost') return undefined;
  const time = `${(at / 1000).toFixed(1).padStart(8)} s`;
  const way = from < to ? `${from} -> ${to}` : `${to} <- ${from}`;
  return fate === 'sent'
    ? `${time}  ${way}  ${String(wire).padStart(5)} B  ${label}`
    : `${time}  ${way}     lost  ${label}`;
}

/** In Markdown, so that it can be pasted where it is quoted. */
function table(costs: readonly PhaseCost[], baseline: Baseline): string {
  const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
  const row = (what: string, datagrams: number, bytes: number, duration: number, https: number): string =>
    `| ${what} | ${datagrams} | ${bytes} | ${Math.round(duration / 1000)} | ${https} | ${(https / bytes).toFixed(1)} |`;
  return [
    '| | datagrams | bytes | seconds | bytes over HTTPS + JSON, at least | ratio |',
    '| --- | --: | --: | --: | --: | --: |',
    ...costs.map(({ phase, datagrams, bytes, duration }) =>
      row(`${phase}: ${MEANING[phase]}`, datagrams, bytes, duration, baseline[phase]),
    ),
    row(
      'all',
      sum(costs.map(({ datagrams }) => datagrams)),
      sum(costs.map(({ bytes }) => bytes)),
      sum(costs.map(({ duration }) => duration)),
      sum(costs.map(({ phase }) => baseline[phase])),
    ),
  ].join('\n');
}
