import { expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { type AuthData, InteractiveAuth } from '../../src/homeserver/interactive_auth.ts';

function service() {
  const clock = new VirtualClock();
  const interactive = new InteractiveAuth({ clock, random: seededRandom(1) });
  const checked: string[] = [];
  const advance = async (operation: string, auth: AuthData | null | undefined) => {
    const outcome = await interactive.advance({
      operation,
      stages: ['m.login.registration_token', 'm.login.terms'],
      auth,
      check: async (stage, { token }) => {
        checked.push(stage);
        return stage === 'm.login.terms' || token === 'good' ? undefined : 'no';
      },
    });
    if (outcome.kind === 'proved') return { proved: outcome.session };
    return { session: outcome.body.session as string, completed: outcome.body.completed };
  };
  return { clock, interactive, advance, checked };
}

const TOKEN = { type: 'm.login.registration_token', token: 'good' };
const TERMS = { type: 'm.login.terms' };

test('what was proved for one operation is worth nothing for another', async () => {
  const { advance } = service();
  const { session } = await advance('one', TOKEN);
  const other = await advance('two', { ...TERMS, session: session! });
  expect(other).toEqual({ session: expect.not.stringMatching(session!), completed: undefined });
  expect(await advance('one', { ...TERMS, session: session! })).toMatchObject({ proved: { id: session } });
});

test('a session that was ended is forgotten', async () => {
  const { advance, interactive } = service();
  const { session } = await advance('one', TOKEN);
  const { proved } = await advance('one', { ...TERMS, session: session! });
  interactive.end(proved!);
  expect(await advance('one', { session: session! })).toMatchObject({ completed: undefined });
});

test('nothing is proved without auth, and nothing out of order', async () => {
  const { advance, checked } = service();
  for (const auth of [undefined, null, {}, TERMS])
    expect(await advance('one', auth)).not.toHaveProperty('proved');
  expect(checked).toEqual([]);
});

test('of ten thousand sessions and one the oldest is forgotten', async () => {
  const { advance } = service();
  const { session: first } = await advance('one', TOKEN);
  const { session: second } = await advance('one', TOKEN);
  for (let i = 0; i < 9_999; i++) await advance('one', null);
  expect(await advance('one', { session: first! })).toMatchObject({ completed: undefined });
  // Asking for the first has made one more.
  expect(await advance('one', { session: second! })).toMatchObject({ completed: undefined });
});

test('sessions last for half an hour', async () => {
  const { advance, clock } = service();
  const { session } = await advance('one', TOKEN);
  clock.advanceTo(30 * 60_000 - 1);
  expect(await advance('one', { session: session! })).toMatchObject({
    session,
    completed: ['m.login.registration_token'],
  });
  clock.advanceTo(30 * 60_000);
  expect(await advance('one', { session: session! })).toMatchObject({ completed: undefined });
});
