import { describe, expect, it } from 'vitest';
import { ExchangeError } from '../../src/exchange/exchange_error.ts';
import type { ExchangeResponse } from '../../src/exchange/response.ts';
import { type PipeLink, PipeTransport } from '../../src/federation/pipe_transport.ts';
import type { FederationCall } from '../../src/federation/transport.ts';
import {
  type PeerEntry,
  parsePeerAddress,
  pipeAddresses,
  Transports,
  UDP_LINK,
} from '../../src/federation/transports.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { A, B, C, ScriptedTransport } from './fixtures.ts';

const peers: PeerEntry[] = [
  { serverName: B, address: 'ravine://192.0.2.1:5683' },
  { serverName: C, address: 'https://127.0.0.1:8448' },
];
const call: FederationCall = { method: 'GET', path: '/x', query: 'y=1', timeoutMs: 60_000, priority: 2 };

describe('the choice of the transport', () => {
  it('is the pipe where a peer entry says so, HTTPS elsewhere, and both are counted', async () => {
    const pipe = new ScriptedTransport(() => 'pipe');
    const https = new ScriptedTransport(() => 'https');
    const transports = new Transports({ serverName: A, peers, pipe, https });
    expect((await transports.request(B, call)).body).toBe('pipe');
    expect((await transports.request(C, call)).body).toBe('https');
    expect(transports.counters).toEqual({ https: 1, pipe: 1 });
    await expect(transports.request(A, call)).rejects.toMatchObject({ problem: 'refused' });
    expect(transports.counters).toEqual({ https: 1, pipe: 1 });
  });

  it('never falls back to HTTPS from a pipe', async () => {
    const https = new ScriptedTransport(() => 'https');
    const transports = new Transports({ serverName: A, peers, https });
    await expect(transports.request(B, call)).rejects.toMatchObject({ problem: 'unreachable' });
    expect(https.calls).toEqual([]);
  });
});

describe('the address of a peer', () => {
  it.each([
    ['https://b.example:8448', undefined],
    ['ravine://[::1]:5683', { link: 'udp', address: '[::1]:5683' }],
    ['ravine+wss://b.example', { link: 'websocket', address: 'wss://b.example' }],
    ['ravine+ws://b.example:1/x?y', { link: 'websocket', address: 'ws://b.example:1/x?y' }],
    ['ravine+serial://radio', { link: 'serial:radio', address: 'serial:radio' }],
    ['ravine+serial://radio/N0CALL-2', { link: 'serial:radio', address: 'N0CALL-2' }],
  ])('%s leads to the link %o', (address, value) => {
    expect(parsePeerAddress(address)).toEqual({ ok: true, value });
  });

  it.each([
    '',
    'radio',
    'udp://x',
    'ravine://',
    'ravine://a/b',
    'https://a/b',
    'ravine+wss://[',
    'ravine+serial://',
  ])('"%s" leads nowhere', (address) => {
    expect(parsePeerAddress(address).ok).toBe(false);
  });

  it('chooses the link, and says so where there is none', async () => {
    const asked: unknown[] = [];
    const socket = (name: string): PipeLink => ({
      socket: {
        async request(_, address) {
          asked.push([name, address]);
          return { status: 200, headers: {} };
        },
      },
      profile: { rate: null, delay: 0 },
    });
    const entry = (server: ServerName, address: string): PeerEntry => ({ serverName: server, address });
    const addresses = pipeAddresses([entry(A, 'ravine+serial://radio/B'), entry(B, 'ravine+wss://b')]);
    const links = new Map([['serial:radio', socket('radio')]]);
    const transport = new PipeTransport({ links, addresses });
    await transport.request(A, call);
    expect(asked).toEqual([['radio', 'B']]);
    await expect(transport.request(B, call)).rejects.toMatchObject({ problem: 'unreachable' });
  });
});

describe('federation through a pipe', () => {
  function pipe(answer: () => ExchangeResponse, rate: number | null = null) {
    const asked: unknown[] = [];
    const link: PipeLink = {
      socket: {
        async request(peer, address, request, { timeoutMs, priority }) {
          asked.push({ peer, address, request, timeoutMs, priority });
          return answer();
        },
      },
      profile: { rate, delay: 2_000 },
    };
    const links = new Map([[UDP_LINK, link]]);
    const transport = new PipeTransport({ links, addresses: pipeAddresses(peers) });
    return { asked, transport };
  }
  const json = (status: number, value: { [key: string]: string }): ExchangeResponse => ({
    status,
    headers: {},
    body: { kind: 'json', value },
  });

  it('asks the peer at its address and answers its JSON', async () => {
    const { asked, transport } = pipe(() => json(200, { a: 'b' }));
    expect(await transport.request(B, { ...call, body: { c: 1 } })).toEqual({
      status: 200,
      body: { a: 'b' },
    });
    expect(asked).toEqual([
      {
        peer: B,
        address: '192.0.2.1:5683',
        request: { method: 'GET', path: '/x', query: 'y=1', body: { kind: 'json', value: { c: 1 } } },
        timeoutMs: 60_000,
        priority: 2,
      },
    ]);
    await expect(transport.request(C, call)).rejects.toMatchObject({ problem: 'unreachable' });
  });

  it('gives a large body the time that it takes on the link', async () => {
    const { asked, transport } = pipe(() => json(200, {}), 2_000);
    await transport.request(B, call);
    await transport.request(B, { ...call, body: { large: 'x'.repeat(60_000) } });
    const [small, large] = (asked as { timeoutMs: number }[]).map(({ timeoutMs }) => timeoutMs);
    const airtimeMs = (60_000 * 8 * 1000) / 2_000;
    expect(large! - small!).toBeGreaterThan(3 * airtimeMs);
  });

  it.each([
    [null, 60_000, 60_000],
    [1_000_000, 60_000, 80_524],
    [10_000, 60_000, 132_428],
    [100, 60_000, 5_322_880],
    // A join, which over HTTPS would get ten minutes.
    [1_000_000, 600_000, 805_243],
    [100, 600_000, 53_228_800],
    [10, 60_000, 52_508_800],
    [null, 600_000, 600_000],
  ])(
    'allows more time the slower the link is: %s bit/s, %s ms over HTTPS',
    async (rate, overHttps, timeoutMs) => {
      const { asked, transport } = pipe(() => json(200, {}), rate);
      await transport.request(B, { ...call, timeoutMs: overHttps });
      expect(asked).toEqual([expect.objectContaining({ timeoutMs: expect.closeTo(timeoutMs, -1) })]);
    },
  );

  it('tells errors of the other server, answers that are none, and failures of the pipe apart', async () => {
    await expect(
      pipe(() => json(404, { errcode: 'M_NOT_FOUND', error: 'no' })).transport.request(B, call),
    ).rejects.toMatchObject({
      status: 404,
      errcode: 'M_NOT_FOUND',
    });
    const bytes: ExchangeResponse = {
      status: 200,
      headers: {},
      body: { kind: 'bytes', contentType: 'x/y', bytes: new Uint8Array(1) },
    };
    await expect(pipe(() => bytes).transport.request(B, call)).rejects.toMatchObject({
      problem: 'bad_answer',
    });
    for (const [reason, problem] of [
      ['timeout', 'timeout'],
      ['refused', 'refused'],
      ['closed', 'unreachable'],
    ] as const) {
      const failing = pipe(() => {
        throw new ExchangeError(reason, 'failed');
      });
      await expect(failing.transport.request(B, call)).rejects.toMatchObject({ problem });
    }
  });
});
