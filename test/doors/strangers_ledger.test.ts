import { expect, it, onTestFinished } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { openCoapDoor } from '../../src/doors/coap.ts';
import type { Caller } from '../../src/exchange/request.ts';
import type { RequestHandler } from '../../src/exchange/serving.ts';
import { Ledger } from '../../src/homeserver/ledger.ts';
import { forbidden } from '../../src/matrix/error.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';

const STRANGER: Caller = { kind: 'device', key: 'ab'.repeat(32), address: '' };

/** A route that lets in whoever knows the word; answers what the ledger keeps of a request to it. */
async function keptOf(caller: Caller, word: string): Promise<readonly unknown[]> {
  const clock = new VirtualClock();
  const cbor = { encode: encodeJson, decode: decodeJson };
  const database = temporaryDatabase();
  const app = createApp({ clock, cbor, authenticate: async () => undefined });
  onTestFinished(() => app.close());
  app.post<{ Body: { word: string } }>(
    '/_matrix/client/v3/login',
    { config: { auth: 'none', repeated: 'ledger' } },
    async ({ body, once }) => {
      if (body.word !== 'tea') throw forbidden('That is not the word.');
      return once.answer(
        (done) => database.transaction((tx) => done(tx, 'token')),
        () => ({ access_token: 'token' }),
      );
    },
  );
  let handle: RequestHandler | undefined;
  const source = {
    onRequest(given: RequestHandler): void {
      handle = given;
    },
  };
  const ledger = new Ledger({ database, clock });
  await openCoapDoor(app, source, cbor, { ledger, link: 'udp' });
  const body = { kind: 'json', value: { word } } as const;
  const request = { method: 'POST', path: '/_matrix/client/v3/login', query: '', body };
  const message = { generation: 1, number: 1 };
  const answer = await handle!(caller, request, new AbortController().signal, message);
  expect(answer.status).toBe(word === 'tea' ? 200 : 403);
  return database.all('SELECT id FROM ledger_requests');
}

it('a stranger who is refused leaves nothing in the ledger', async () => {
  expect(await keptOf(STRANGER, 'coffee')).toEqual([]);
});

it('a stranger who is let in does', async () => {
  expect(await keptOf(STRANGER, 'tea')).toHaveLength(1);
});

it('no token is kept of whoever is let in by another pipe than a device’s own', async () => {
  expect(await keptOf({ kind: 'server', name: 'b.example' as ServerName }, 'tea')).toEqual([]);
});
