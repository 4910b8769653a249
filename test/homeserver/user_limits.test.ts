import { expect, it } from 'vitest';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { USER_RATES, userLimits } from '../../src/homeserver/user_limits.ts';
import type { MatrixError } from '../../src/matrix/error.ts';
import type { UserId } from '../../src/matrix/ids.ts';

const ALICE = '@alice:a.example' as UserId;
const BOB = '@bob:a.example' as UserId;

it('holds each user to a rate of their own in each thing that they do', () => {
  const clock = new VirtualClock();
  const limit = userLimits(clock, { ...USER_RATES, joins: { burst: 2, interval_ms: 500 } });
  limit('joins', ALICE);
  limit('joins', ALICE);
  const refused = (): unknown => {
    try {
      limit('joins', ALICE);
      return undefined;
    } catch (error) {
      return (error as MatrixError).toJson();
    }
  };
  expect(refused()).toMatchObject({ errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 500 });
  limit('joins', BOB);
  limit('invites', ALICE);
  clock.advanceTo(499);
  expect(refused()).toMatchObject({ retry_after_ms: 1 });
  clock.advanceTo(500);
  expect(refused()).toBeUndefined();
});
