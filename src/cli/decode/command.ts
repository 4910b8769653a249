import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { loadModel, type ModelName } from '../../server/models.ts';
import { type ReadKeyLog, readKeyLog } from '../key_log.ts';
import { printJson } from '../output.ts';
import { Explainer } from './explain.ts';
import { type Input, readHex, readInput } from './input.ts';
import { type Told, timeOf, toText, wireOf } from './text.ts';

interface Options {
  readonly file?: string;
  readonly keylog?: string;
  readonly json?: true;
}

const STANDARD_INPUT = '-';
const MODELS: readonly ModelName[] = ['large', 'small'];

export function decodeCommand(): Command {
  return new Command('decode')
    .description('Explains datagrams layer by layer, with the bytes that each takes.')
    .argument('[hex...]', 'datagrams in hexadecimal; else they are read from --file or the standard input')
    .option('-f, --file <file>', 'a pcap or pcapng capture, or one datagram a line in hexadecimal')
    .option('-k, --keylog <file>', 'what "ravine serve --keylog" has written: records are opened with it')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Bytes on the wire count 42 for Ethernet, IPv4 and UDP, whatever the capture has around a datagram. Of a pipe's records the
clear part is shown, and how much is sealed; with the key log of one of its ends also what is in them, layer by layer. What
stands in brackets is inside of a packed content, in bytes once it is unpacked. Access tokens and passwords are not shown.

Examples:
  ravine decode 40017d345e
  ravine serve --capture ravine.pcapng          in one terminal, and when it has ended:
  ravine decode --file ravine.pcapng
  ravine serve --capture ravine.pcapng --keylog ravine.keys
  ravine decode --file ravine.pcapng --keylog ravine.keys
  tcpdump -i any -w - udp port 5683 | ravine decode
  ravine decode --file ravine.pcapng --json | jq '[.datagrams[].wire] | add'`,
    )
    .action(decode);
}

async function decode(hex: readonly string[], { file, keylog, json }: Options): Promise<void> {
  if (hex.length > 0 && file !== undefined) throw new Error('Give either datagrams or a file.');
  const read =
    hex.length > 0
      ? readHex(hex)
      : readInput(readFileSync(file === undefined || file === STANDARD_INPUT ? 0 : file));
  if (!read.ok) throw new Error(`This cannot be read: ${read.problem}.`);
  const input = read.value;
  const explainer =
    keylog === undefined
      ? new Explainer()
      : new Explainer(keysIn(keylog), await Promise.all(MODELS.map(loadModel)));
  const explained = input.datagrams.map((given) => ({
    given,
    explained: explainer.explain(given.bytes, given),
  }));
  if (json) {
    printJson(toJson(input, explained));
    return;
  }
  if (explained.length === 0) console.log('No datagrams.');
  for (const one of explained) console.log(toText(one));
  for (const [reason, count] of input.skipped)
    console.log(`${count} frame${count === 1 ? '' : 's'} left out: ${reason}`);
}

function keysIn(file: string): ReadKeyLog {
  const keys = readKeyLog(readFileSync(file, 'utf8'));
  if (!keys.ok) throw new Error(`The key log cannot be read: ${keys.problem}.`);
  return keys.value;
}

const toJson = ({ skipped }: Input, explained: readonly Told[]) => ({
  datagrams: explained.map(({ given, explained }) => ({
    at: given.at === undefined || timeOf(given.at) === '' ? null : timeOf(given.at),
    from: given.from ?? null,
    to: given.to ?? null,
    comment: given.comment ?? null,
    wire: wireOf(explained),
    what: explained.what,
    layers: explained.layers,
  })),
  skipped: Object.fromEntries(skipped),
});
