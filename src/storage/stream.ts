import type { Reader, Transaction } from './database.ts';

/** The last position of the delivery stream: everything up to it is committed and readable. */
export async function lastPosition(db: Reader): Promise<number> {
  return (await db.get<{ position: number }>('SELECT position FROM stream'))!.position;
}

/** Takes the next position of the delivery stream. */
export async function nextPosition(tx: Transaction): Promise<number> {
  await tx.run('UPDATE stream SET position = position + 1');
  return lastPosition(tx);
}
