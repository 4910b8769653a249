import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pipeCrashes } from './pipe_crashes.ts';

const HELP = `Usage: node test/crash/main.ts [options]

Two servers in processes of their own talk through a pipe on loopback. Again and again one of them is killed (SIGKILL) at
a random moment and started again. Fails where an acknowledged message is lost, where one is there twice, or where a
packet number was used twice.

Options:
  --runs <n>   how many kills (default 200)
  --seed <n>   (default 1)
  --help
`;

const whole = (text: string): number => {
  if (!/^\d{1,9}$/.test(text)) throw new Error(`not a whole number: ${text}`);
  return Number(text);
};

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  process.stdout.write(HELP);
} else {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-crash-'));
  const report = await pipeCrashes({
    runs: whole(values.runs),
    seed: whole(values.seed),
    folder,
    progress: (run, victim, ms) => console.log(`${run}  ${victim} killed, healed in ${Math.round(ms)} ms`),
  });
  const { acknowledged, lost, twice, ledger, handshakes, slowestHealMs } = report;
  console.log(`${acknowledged} messages acknowledged, ${lost.length} lost, ${twice.length} twice`);
  console.log(
    `${ledger.counts.records} records, ${ledger.counts.salted} salted, ${handshakes} handshake messages and hints`,
  );
  console.log(`healed in ${Math.round(slowestHealMs)} ms at most`);
  for (const line of [...lost, ...twice, ...ledger.problems]) console.log(line);
  const kept = lost.length + twice.length + ledger.problems.length === 0;
  // Of what went wrong the files are kept.
  if (kept) rmSync(folder, { recursive: true, force: true });
  else console.log(`the servers' files: ${folder}`);
  process.exitCode = kept ? 0 : 1;
}
