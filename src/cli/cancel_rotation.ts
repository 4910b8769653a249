import type { Database } from '../storage/database.ts';
import { dropNextKey } from '../storage/own_keys.ts';
import { printJson } from './output.ts';

const NAMES = { signing: 'signing', noise: 'Noise' } as const;

/**
 * Takes a rotation back that has not come into effect, and says so.
 * @throws where none waits for the next start
 */
export async function cancelRotation(
  database: Database,
  purpose: keyof typeof NAMES,
  json: boolean,
): Promise<void> {
  const name = NAMES[purpose];
  const dropped = await database.transaction((tx) => dropNextKey(tx, purpose));
  if (!dropped) throw new Error(`No new ${name} key waits for the next start.`);
  if (json) printJson({ cancelled: true });
  else console.log(`The ${name} key stays as it is.`);
}
