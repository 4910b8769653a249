import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { SPEC_VERSIONS } from '../../src/homeserver/capabilities.ts';
import { startEphemeral } from '../../src/server/ephemeral.ts';
import type { Homeserver } from '../../src/server/homeserver.ts';
import {
  NOT_SERVED,
  nameOf,
  OPERATIONS,
  type Operation,
  operationOf,
  rowsOf,
  SERVED,
} from './coverage/operations.ts';

/*
 * Every operation of the specification is on one of two lists: served.tsv, with the test file that shows it, or
 * not_served.tsv, with a reason. That file notes which operations have succeeded through which doors, and fails where one
 * that it stands for is not among them for all doors (coverage/doors.ts). Here the lists are held against the
 * specification's, against the files, and against the routes of a real server.
 */

const REFERENCE = new URL('../../../shared/reference/endpoints-v1.19.tsv', import.meta.url);
/** What is asked in the place of parameters: routes that look at them refuse it, and that tells that they are there. */
const ANYTHING = 'x';

const names = [...new Set(OPERATIONS.map(nameOf))];
const kindOf = (name: string): string => NOT_SERVED.get(name)!.split(':', 1)[0]!;

describe('the lists', () => {
  test.skipIf(!existsSync(REFERENCE))(
    'are about the operations of the specification (skipped where ../shared is not there)',
    () => {
      const here = readFileSync(new URL('./endpoints.tsv', import.meta.url), 'utf8');
      expect(here).toBe(readFileSync(REFERENCE, 'utf8'));
    },
  );

  test('have every operation once', () => {
    expect(names.filter((name) => SERVED.has(name) === NOT_SERVED.has(name))).toEqual([]);
  });

  test('have nothing else, and nothing twice', () => {
    const listed = ['served.tsv', 'not_served.tsv'].flatMap(rowsOf).map((row) => row.slice(0, 2).join(' '));
    expect(listed.filter((name, at) => !names.includes(name) || listed.indexOf(name) !== at)).toEqual([]);
  });

  test('have a reason of a known kind for what is not served', () => {
    const unknown = [...NOT_SERVED].filter(([, reason]) => !/^(later|left out|refused): \S/.test(reason));
    expect(unknown).toEqual([]);
  });

  test('name files that note what succeeds through which door', () => {
    const files = new Set(SERVED.values());
    const wrong = [...files].filter((file) => {
      const url = new URL(file, import.meta.url);
      return !existsSync(url) || !readFileSync(url, 'utf8').includes('doorsOf(import.meta.url');
    });
    expect(wrong).toEqual([]);
  });
});

test('each errcode that the specification names is in the file that shows its operation, or has a reason', () => {
  const textOf = (file: string): string => readFileSync(new URL(file, import.meta.url), 'utf8');
  const excused = new Set(
    rowsOf('errcodes_not_shown.tsv').map(([method, template, errcode]) => `${method} ${template} ${errcode}`),
  );
  const missing = rowsOf('errcodes.tsv').flatMap(([method, template, , errcode]) => {
    const file = SERVED.get(`${method} ${template}`);
    const isShown = file === undefined || textOf(file).includes(errcode!);
    return isShown ? [] : [`${method} ${template} ${errcode}`];
  });
  expect([...new Set(missing)].sort()).toEqual([...excused].sort());
});

test('the versions of the specification that are told are those of which nothing is missing', () => {
  const isWhole = (minor: number): boolean =>
    rowsOf('endpoints.tsv')
      .filter(([section, , , , added]) => section === 'client-server' && added === `1.${minor}`)
      .every(([, , method, template]) => {
        const reason = NOT_SERVED.get(`${method} ${template}`);
        return reason === undefined || /^(left out|refused):/.test(reason);
      });
  const later = Array.from({ length: 18 }, (_, at) => at + 2);
  const missing = later.findIndex((minor) => !isWhole(minor));
  const whole = missing < 0 ? later : later.slice(0, missing);
  // Without v1.1 no client talks to a server; what is missing of that is on the list.
  expect(SPEC_VERSIONS).toEqual(['v1.1', ...whole.map((minor) => `v1.${minor}`)]);
});

test('a request is told from one of a longer, a shorter and a more special path', () => {
  const named = (method: string, path: string) => {
    const operation = operationOf(method, path);
    return operation && nameOf(operation);
  };
  expect(named('GET', '/_matrix/client/v3/rooms/!r/state?format=event')).toBe(
    'GET /_matrix/client/v3/rooms/{roomId}/state',
  );
  expect(named('GET', '/_matrix/client/v3/rooms/!r/state/m.room.name/')).toBe(
    'GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}',
  );
  expect(named('GET', '/_matrix/federation/v1/query/profile')).toBe(
    'GET /_matrix/federation/v1/query/profile',
  );
  expect(named('GET', '/_matrix/client/v3/rooms/!r')).toBeUndefined();
  expect(named('DELETE', '/_matrix/client/versions')).toBeUndefined();
});

describe('the routes of a server', () => {
  const time = new VirtualTime();
  const folder = mkdtempSync(join(tmpdir(), 'ravine-routes-'));
  let server: Homeserver;
  let routed: Set<string>;

  beforeAll(async () => {
    const { clock, work } = time;
    const config = { server_name: 'home.example' };
    const random = seededRandom(1);
    server = await time.until(startEphemeral({ clock, work, folder, random, config }), 60_000);
    const found = await Promise.all(
      OPERATIONS.map(async (one) => [nameOf(one), await isRouted(one)] as const),
    );
    routed = new Set(found.filter(([, is]) => is).map(([name]) => name));
  });

  afterAll(async () => {
    await time.until(server.stop(), 60_000);
    rmSync(folder, { recursive: true, force: true });
  });

  async function isRouted({ method, template }: Operation): Promise<boolean> {
    const url = template.replaceAll(/\{\w+\}/g, ANYTHING);
    const answer = await time.until(
      server.app.inject({ method: method as 'GET', url, ...(method !== 'GET' && { payload: {} }) }),
      60_000,
    );
    const isUnknown = answer.statusCode === 404 || answer.statusCode === 405;
    return !(isUnknown && answer.json<{ errcode: string }>().errcode === 'M_UNRECOGNIZED');
  }

  test('are there for all that is served or refused', () => {
    const wanted = names.filter((name) => SERVED.has(name) || kindOf(name) === 'refused');
    expect(wanted.filter((name) => !routed.has(name))).toEqual([]);
  });

  test('are not there for what comes later or is left out', () => {
    const unwanted = names.filter((name) => NOT_SERVED.has(name) && kindOf(name) !== 'refused');
    expect(unwanted.filter((name) => routed.has(name))).toEqual([]);
  });
});
