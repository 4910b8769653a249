import { Command, InvalidArgumentError } from 'commander';
import { printJson } from '../output.ts';
import { rowsJson, rowsText } from './report.ts';
import { isKept } from './scenario.ts';
import { chatLines } from './texts.ts';
import { measureWire, SCENARIOS } from './wire.ts';

export function benchCommand(): Command {
  const bench = new Command('bench').description('Measures this version on this machine.').addHelpText(
    'after',
    `
Examples:
  ravine bench wire                     what messages cost on the wire, beside HTTPS and JSON
  ravine bench wire --json`,
  );
  bench
    .command('wire')
    .description('What messages, handshakes, joins and a sync cost on the wire, and what they may cost.')
    .argument('[scenario...]', 'some of them, such as W1 or W8; else all', scenario)
    .option(
      '--json',
      'print JSON: an array of {id, name, bytes, budget, ok, baseline_https_json, ratio, ...}',
    )
    .option('--no-https', 'leave HTTPS out: quicker, and the same to the byte each time')
    .option('--no-layers', 'do not measure what each layer saves: quicker')
    .option('--check', 'exit with 1 where a budget is not kept')
    .addHelpText(
      'after',
      `
Whole homeservers and clients talk over an emulated link in virtual time, and each datagram is captured on it. The same
exchanges run once more over HTTPS and JSON on 127.0.0.1, to compare. It takes a few minutes, and one with --no-layers.

What the product cannot do yet is told as such, and counts as over budget; so does, with --no-https, what is judged by its
ratio to HTTPS. Exit status: 0; with --check 1 where a budget is not kept.

Layers: what each exchange takes with Deflate alone, then with the models as well, with handles, and with bodies in forms of
their routes, in that order.

Examples:
  ravine bench wire
  ravine bench wire W1 W3 --no-https
  ravine bench wire --no-https --no-layers --check
  ravine bench wire --json | jq '.[] | select(.ok | not) | .id'`,
    )
    .action(wire);
  return bench;
}

function scenario(id: string, previous: readonly string[] | undefined): readonly string[] {
  const name = id.toUpperCase();
  if (!Object.hasOwn(SCENARIOS, name))
    throw new InvalidArgumentError(`It is one of ${Object.keys(SCENARIOS).join(', ')}.`);
  return [...(previous ?? []), name];
}

interface WireFlags {
  readonly json?: true;
  readonly https: boolean;
  readonly layers: boolean;
  readonly check?: true;
}

async function wire(asked: readonly string[], { json, https, layers, check }: WireFlags): Promise<void> {
  const ids = asked.length === 0 ? Object.keys(SCENARIOS) : asked;
  const texts = chatLines();
  const isTerminal = process.stderr.isTTY;
  const rows = await measureWire(ids, { https, texts, steps: layers }, (id) => {
    if (isTerminal) process.stderr.write(`\r\x1b[Kmeasuring ${id} ...`);
  });
  if (isTerminal) process.stderr.write('\r\x1b[K');
  if (json) printJson(rowsJson(rows));
  else console.log(rowsText(rows, texts.length));
  if (check && !rows.every(isKept)) process.exitCode = 1;
}
