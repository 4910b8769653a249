import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { forLine, forTerminal } from '../coap/render.ts';
import { jsonTime, printJson } from '../output.ts';
import { type Explained, explain } from './explain.ts';
import { type Given, type Input, readHex, readInput } from './input.ts';

interface Options {
  readonly file?: string;
  readonly json?: true;
}

const STANDARD_INPUT = '-';

export function decodeCommand(): Command {
  return new Command('decode')
    .description('Explains datagrams layer by layer, with the bytes that each takes.')
    .argument('[hex...]', 'datagrams in hexadecimal; else they are read from --file or the standard input')
    .option('-f, --file <file>', 'a pcap or pcapng capture, or one datagram a line in hexadecimal')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Bytes on the wire count 42 for Ethernet, IPv4 and UDP, whatever the capture has around a datagram. Of a pipe's records the
clear part is shown, and how much is sealed. Access tokens are not shown.

Examples:
  ravine decode 40017d345e
  ravine serve --capture ravine.pcapng          in one terminal, and when it has ended:
  ravine decode --file ravine.pcapng
  tcpdump -i any -w - udp port 5683 | ravine decode
  ravine decode --file ravine.pcapng --json | jq '[.datagrams[].wire] | add'`,
    )
    .action(decode);
}

function decode(hex: readonly string[], { file, json }: Options): void {
  if (hex.length > 0 && file !== undefined) throw new Error('Give either datagrams or a file.');
  const read =
    hex.length > 0
      ? readHex(hex)
      : readInput(readFileSync(file === undefined || file === STANDARD_INPUT ? 0 : file));
  if (!read.ok) throw new Error(`This cannot be read: ${read.problem}.`);
  const input = read.value;
  const explained = input.datagrams.map((given) => ({ given, explained: explain(given.bytes) }));
  if (json) {
    printJson(toJson(input, explained));
    return;
  }
  if (explained.length === 0) console.log('No datagrams.');
  for (const one of explained) console.log(toText(one));
  for (const [reason, count] of input.skipped)
    console.log(`${count} frame${count === 1 ? '' : 's'} left out: ${reason}`);
}

interface One {
  readonly given: Given;
  readonly explained: Explained;
}

const wireOf = ({ layers }: Explained): number => layers.reduce((sum, { bytes }) => sum + bytes, 0);

function toText({ given, explained }: One): string {
  const { at, from, to, comment } = given;
  const around = [
    ...(at === undefined ? [] : [timeOf(at)]),
    ...(from === undefined ? [] : [`${from} -> ${to}`]),
    `${wireOf(explained)} B`,
    explained.what,
    ...(comment === undefined ? [] : [`"${comment}"`]),
  ];
  const lines = explained.layers.flatMap(({ name, bytes, parts }) => [
    `  ${String(bytes).padStart(5)}  ${name}`,
    ...parts.map(
      (part) => `         ${String(part.bytes).padStart(5)}  ${part.name.padEnd(24)}  ${forLine(part.value)}`,
    ),
  ]);
  return [forLine(around.join('  ')), ...lines.map((line) => forTerminal(line).trimEnd())].join('\n');
}

/** A capture may say anything of the time. */
const timeOf = (at: number): string => (Math.abs(at) < 8.64e15 ? jsonTime(at) : '');

const toJson = ({ skipped }: Input, explained: readonly One[]) => ({
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
