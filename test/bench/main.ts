import { parseArgs } from 'node:util';

const HELP = `Usage: npm run bench -- <benchmark> [options]

  codec      CoAP messages encoded and decoded a second, beside coap-packet; fails below twice as fast; and what
             compact values take and how fast they are, beside CBOR and JSON
  federation three servers that lose, delay and spoil messages, are restarted and killed: everything is the same everywhere
             in the end, and signed; one run for each seed, on all cores, and the counts of all that has happened
  fuzz       random and mutated datagrams through the public door, values and mutated encodings through the
             compact codec: no exception, no growth, bounds kept, everything comes back as it was
  flood      50,000 handshake openings in ten seconds beside an established pipe, over real UDP on loopback
  goodput    exchanges over links of three rates with and without loss: RFC 7252's timers and ours
  mixer      how long the models of the mixer take to load, and for 100 bytes of chat, with and without a history
  pipe       what handshakes and records cost, from captured datagrams, and how many there are a second
  planted    bugs planted one after the other, and whether the tests of docs/security.md's rules find each
  rooms      a room of 50,000 members: events authorised and stored a second, the state at any of them, a fork
  start      how long a server takes from its process's start to its first answers, also with busy cores
  selective  large bodies in lockstep and by selective repeat, on emulated links

Options:
  --json             the result as one line of JSON
  --datagrams <n>    fuzz: how many, and how many values (default 1000000)
  --events <n>       rooms: how many members (default 50000)
  --minutes <n>      federation: how long at most; it says with which seed to go on (default 600)
  --seed <n>         fuzz: the seed; federation: the first (default 1)
  --seeds <n>        federation: how many (default 10000)
  --help

Examples:
  npm run bench -- codec
  npm run bench -- codec --json
  npm run bench -- federation --seeds 2000 --seed 8001
  npm run bench -- fuzz --datagrams 10000000 --seed 7

The exit code is 0 where the budget is kept, 1 where it is not, 2 for a wrong command line.
`;

/** One file for each benchmark; only the one that is asked for is loaded. */
const BENCHMARKS: Readonly<Record<string, () => Promise<{ run(options: Options): Promise<boolean> }>>> = {
  codec: () => import('./codec.ts'),
  federation: () => import('./federation.ts'),
  fuzz: () => import('./fuzz.ts'),
  flood: () => import('./flood.ts'),
  goodput: () => import('./goodput.ts'),
  mixer: () => import('./mixer.ts'),
  pipe: () => import('./pipe.ts'),
  planted: () => import('./planted.ts'),
  rooms: () => import('./rooms.ts'),
  selective: () => import('./selective.ts'),
  start: () => import('./start.ts'),
};

export interface Options {
  readonly json: boolean;
  readonly datagrams: number;
  readonly events: number;
  readonly seed: number;
  readonly seeds: number;
  readonly minutes: number;
}

function usage(sentence: string): never {
  process.stderr.write(`${sentence}\n\n${HELP}`);
  process.exit(2);
}

function commandLine() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: 'boolean', default: false },
        datagrams: { type: 'string', default: '1000000' },
        events: { type: 'string', default: '50000' },
        seed: { type: 'string', default: '1' },
        seeds: { type: 'string', default: '10000' },
        minutes: { type: 'string', default: '600' },
        help: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
}

function whole(name: string, text: string): number {
  return /^\d{1,9}$/.test(text) ? Number(text) : usage(`--${name} takes a whole number, not ${text}`);
}

const { values, positionals } = commandLine();
if (values.help) {
  process.stdout.write(HELP);
} else {
  const [name = '', ...rest] = positionals;
  const benchmark = BENCHMARKS[name];
  if (benchmark === undefined || rest.length > 0)
    usage(name === '' ? 'Which one?' : `No benchmark ${positionals.join(' ')}`);
  const { run } = await benchmark();
  const kept = await run({
    json: values.json,
    datagrams: whole('datagrams', values.datagrams),
    events: whole('events', values.events),
    seed: whole('seed', values.seed),
    seeds: whole('seeds', values.seeds),
    minutes: whole('minutes', values.minutes),
  });
  process.exitCode = kept ? 0 : 1;
}
