import { PLANTED_BUGS } from '../rules/planted_bugs.ts';
import { type PlantedBug, runTests } from '../rules/planting.ts';

/** What the simulation may take to find one of them. */
const SEEDS = '1-1500';
/** That the tests pass without any. */
const CLEAN_SEEDS = '1-100';

/** Why a bug was not found as it should have been; undefined: it was. */
async function missed(bug: PlantedBug): Promise<string | undefined> {
  const { failed, isPlanted } = await runTests(bug.test, [bug.title], SEEDS, bug);
  if (!isPlanted) return failed[0]?.message ?? `${bug.file} was not loaded`;
  const [first] = failed;
  if (first === undefined) return 'nothing failed';
  return first.message.includes(bug.says ?? '') ? undefined : `something else failed: ${first.message}`;
}

/** Plants each bug of the list and runs the test that has to find it. */
export async function run({ json }: { readonly json: boolean }): Promise<boolean> {
  const say = (line: string): void => {
    if (!json) process.stdout.write(`${line}\n`);
  };
  const results: { name: string; test: string; missed: string | undefined }[] = [];
  for (const test of new Set(PLANTED_BUGS.map((bug) => bug.test))) {
    const bugs = PLANTED_BUGS.filter((bug) => bug.test === test);
    const { failed, passed } = await runTests(
      test,
      [...new Set(bugs.map(({ title }) => title))],
      CLEAN_SEEDS,
    );
    const ready = failed.length === 0 && passed > 0;
    say(
      `${test}${ready ? '' : `: fails without any bug: ${failed[0]?.message ?? 'no test has that title'}`}`,
    );
    for (const bug of bugs) {
      const problem = ready ? await missed(bug) : 'not tried';
      results.push({ name: bug.name, test, missed: problem });
      say(`  ${problem === undefined ? 'found ' : 'MISSED'} ${bug.name}${problem ? `: ${problem}` : ''}`);
    }
  }
  const kept = results.every(({ missed: problem }) => problem === undefined);
  const count = results.filter(({ missed: problem }) => problem === undefined).length;
  if (json) process.stdout.write(`${JSON.stringify({ kept, results })}\n`);
  say(`${count} of ${results.length} planted bugs were found.`);
  return kept;
}
