import type { Transaction } from './database.ts';

/** Takes the next position of the delivery stream. */
export async function nextPosition(tx: Transaction): Promise<number> {
  return (await tx.get<{ position: number }>('UPDATE stream SET position = position + 1 RETURNING position'))!
    .position;
}
