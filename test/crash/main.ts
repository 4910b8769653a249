import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { clientCrashes } from './client_crashes.ts';
import { ESSENTIAL, failpoints } from './failpoints.ts';
import { pipeCrashes } from './pipe_crashes.ts';
import type { RecordLedger } from './record_ledger.ts';

const HELP = `Usage: node test/crash/main.ts [options]

Two servers in processes of their own talk through a pipe on loopback. Again and again one of them is killed (SIGKILL) and
started again: at random moments, or with --failpoints at every boundary that their conversation has, before and after
each commit and each datagram. Fails where an acknowledged message is lost, where one is there twice, where a packet number
was used twice, or where a boundary that they have come to was not reached again.

Options:
  --runs <n>     how many kills at random moments (default 200)
  --seed <n>     (default 1)
  --failpoints   at every boundary instead
  --clients      one server alone, under what clients do to it: accounts, rooms, messages, receipts, account data and
                 /sync. Fails where something that was answered is lost or there twice; with --failpoints it dies at each
                 boundary after so many kills
  --only <text>  of the boundaries, those that have this in their name, such as "send IK" or "pipe_sessions"
  --help
`;

/** What both kinds of runs find out. */
interface Findings {
  readonly acknowledged: number;
  readonly lost: readonly string[];
  readonly twice: readonly string[];
  readonly ledger: RecordLedger;
}

const whole = (text: string): number => {
  if (!/^\d{1,9}$/.test(text)) throw new Error(`not a whole number: ${text}`);
  return Number(text);
};

/** Prints what was found. @returns what is against the rules */
function tell({ acknowledged, lost, twice, ledger }: Findings): readonly string[] {
  const { records, salted, handshake, hints } = ledger.counts;
  console.log(`${acknowledged} messages acknowledged, ${lost.length} lost, ${twice.length} twice`);
  console.log(`${records} records, ${salted} salted, ${handshake} handshake messages, ${hints} hints`);
  return [...lost, ...twice, ...ledger.problems];
}

async function randomKills(folder: string, runs: number, seed: number): Promise<readonly string[]> {
  const report = await pipeCrashes({
    ...{ runs, seed, folder },
    progress: (run, victim, ms) => console.log(`${run}  ${victim} killed, healed in ${Math.round(ms)} ms`),
  });
  console.log(`healed in ${Math.round(report.slowestHealMs)} ms at most`);
  return tell(report);
}

async function clientKills(
  options: Omit<Parameters<typeof clientCrashes>[0], 'progress'>,
): Promise<readonly string[]> {
  const report = await clientCrashes({ ...options, progress: (line) => console.log(line) });
  for (const [name, times] of report.answered) console.log(name.padEnd(28), String(times).padStart(8));
  return [...report.wrong, ...report.missed.map((boundary) => `not reached: ${boundary}`)];
}

async function allFailpoints(folder: string, only: string): Promise<readonly string[]> {
  const report = await failpoints({ folder, only, progress: (line) => console.log(line) });
  console.log('\nsituation                      kills  reached  slowest to heal');
  for (const [situation, cases] of Object.entries(Object.groupBy(report.cases, (one) => one.situation))) {
    const slowest = Math.max(...cases.map(({ healedMs }) => healedMs));
    const columns = [cases.length, cases.filter(({ hit }) => hit).length, `${Math.round(slowest)} ms`];
    console.log(situation.padEnd(28), ...columns.map((column) => String(column).padStart(8)));
  }
  const hit = new Set(report.cases.filter((one) => one.hit).map(({ boundary }) => boundary));
  const essential = ESSENTIAL.filter((boundary) => boundary.includes(only) && !hit.has(boundary));
  const missed = report.cases.filter((one) => !one.hit);
  return [
    ...tell(report),
    ...missed.map(({ victim, situation, boundary }) => `not reached: ${victim} ${situation}: ${boundary}`),
    ...essential.map((boundary) => `reached by neither: ${boundary}`),
  ];
}

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    clients: { type: 'boolean', default: false },
    failpoints: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  process.stdout.write(HELP);
} else {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-crash-'));
  const [runs, seed] = [whole(values.runs), whole(values.seed)];
  const kill = (): Promise<readonly string[]> => {
    if (values.clients)
      return clientKills({ runs, seed, folder, boundaries: values.failpoints ? 'all' : [] });
    return values.failpoints ? allFailpoints(folder, values.only) : randomKills(folder, runs, seed);
  };
  const wrong = await kill();
  for (const line of wrong) console.log(line);
  // Of what went wrong the files are kept.
  if (wrong.length === 0) rmSync(folder, { recursive: true, force: true });
  else console.log(`the servers' files: ${folder}`);
  process.exitCode = wrong.length === 0 ? 0 : 1;
}
