import { expect, test } from 'vitest';
import { RemoteSlots } from '../../../src/homeserver/media/remote_slots.ts';
import type { ServerName } from '../../../src/matrix/ids.ts';

test('one slow server takes a part of the slots, and all together not more than there are', async () => {
  const slots = new RemoteSlots();
  const { promise, resolve } = Promise.withResolvers<string>();
  const slow = 'slow.example' as ServerName;
  const running = Array.from({ length: 8 }, () => slots.run(slow, () => promise));
  const full = { errcode: 'M_LIMIT_EXCEEDED' };
  await expect(slots.run(slow, () => promise)).rejects.toMatchObject(full);
  for (let n = 0; n < 56; n++) running.push(slots.run(`s${n}.example` as ServerName, () => promise));
  await expect(slots.run('last.example' as ServerName, () => promise)).rejects.toMatchObject(full);
  resolve('come');
  expect(new Set(await Promise.all(running))).toEqual(new Set(['come']));
  await expect(slots.run(slow, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
  for (let n = 0; n < 20; n++) expect(await slots.run(slow, async () => n)).toBe(n);
});
