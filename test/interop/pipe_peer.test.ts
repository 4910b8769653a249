import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ravine } from '../cli/run.ts';
import { freePort } from '../free_port.ts';
import { installPipePeer, PipePeer } from './pipe_peer.ts';
import { RavineProcess } from './ravine_process.ts';

/*
 *   ravine serve (a process, real files) ──UDP on loopback── peer.py (Python, dissononce)
 *
 * The other side follows docs/protocol.md and shares no code with Ravine.
 */
const missing = await installPipePeer();
const VERSION = '/_matrix/federation/v1/version';
const [DATA, XX1, XX2, XX3, IK1, IK2, CONTROL, HINT] = [0, 1, 2, 3, 4, 5, 6, 7];
const CLOSE = 1;

describe.skipIf(missing !== undefined)(
  `a pipe to a second implementation (skipped where it cannot be installed: ${missing ?? 'it is'})`,
  () => {
    let folder: string;
    let server: RavineProcess;
    let port: number;
    const peers: PipePeer[] = [];

    const startPeer = async (name = 'peer.test'): Promise<PipePeer> => {
      const peer = await PipePeer.start(name, folder);
      peers.push(peer);
      return peer;
    };

    /** A server that reaches `peer` by its pipe, and a peer with a session that it has opened. */
    const startServer = async (peer: PipePeer, ...options: readonly string[]): Promise<void> => {
      port = await freePort('udp');
      server = new RavineProcess(folder, {
        server_name: 'here.test',
        coap: { port },
        federation: {
          trust: 'tofu',
          peers: [{ server_name: 'peer.test', address: `ravine://127.0.0.1:${peer.port}`, trust: 'tofu' }],
        },
        log: { level: 'debug' },
      });
      await server.start(...options);
    };

    /** Has the server ask the peer something: a user wants to join a room that only the peer can know. */
    const askPeer = (token: string, room = '!room:peer.test') =>
      server.call('POST', `/join/${encodeURIComponent(room)}?via=peer.test`, token, {});

    const kinds = async (peer: PipePeer, direction: 'sent' | 'received'): Promise<number[]> => {
      const { counts } = await peer.state();
      return Array.from({ length: 8 }, (_, kind) => counts[`${direction} kind ${kind}`] ?? 0);
    };

    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'ravine-pipe-peer-'));
    });

    afterEach(async () => {
      for (const peer of peers.splice(0)) await peer.stop();
      await server.end('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    });

    it('opens with XX and gets an answer to a federation request', async () => {
      const peer = await startPeer();
      await startServer(peer);
      expect(await peer.open('here.test', port)).toEqual({ closed: null, fallback: false });
      expect(await peer.request('GET', VERSION)).toEqual({
        code: '2.05',
        body: { server: { name: 'Ravine', version: expect.any(String) } },
      });
      const received = await kinds(peer, 'received');
      expect([received[XX2!], received[IK2!], received[HINT!]]).toEqual([1, 0, 0]);
      // A deflated body both ways, and a status that is none of CoAP's own.
      const transaction = { origin: 'peer.test', origin_server_ts: 1, pdus: [], edus: [] };
      const send = '/_matrix/federation/v1/send/1';
      expect(await peer.request('PUT', send, transaction)).toEqual({ code: '2.04', body: { pdus: {} } });
      expect(await peer.request('GET', '/_matrix/federation/v1/nothing')).toMatchObject({
        code: '4.04',
        body: { errcode: 'M_UNRECOGNIZED' },
      });
    });

    it('speaks with compact headers, both ways, where both have said that they have them', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.configure({
        compact: true,
        answer: [403, { errcode: 'M_FORBIDDEN', error: 'not for you' }],
      });
      expect(await peer.open('here.test', port)).toEqual({ closed: null, fallback: false });
      // Numbers of one byte and of two, in two epochs.
      expect((await peer.request('GET', VERSION, undefined, 1_200)).code).toBe('2.05');
      const transaction = { origin: 'peer.test', origin_server_ts: 1, pdus: [], edus: [] };
      const send = '/_matrix/federation/v1/send/1';
      expect(await peer.request('PUT', send, transaction)).toEqual({ code: '2.04', body: { pdus: {} } });
      expect((await peer.request('GET', '/_matrix/federation/v1/nothing')).code).toBe('4.04');
      const { counts } = await peer.state();
      expect(counts['compact d0']).toBe(1_200);
      expect([counts['compact c0'], counts['compact f0'], counts.dropped ?? 0]).toEqual([1, 1, 0]);
      const token = await server.register('alice');
      expect((await askPeer(token)).status).toBe(403);
      expect((await peer.state()).counts['compact 10']).toBeGreaterThan(0);
    });

    it('leaves a capture and a key log behind, with which every record is explained', async () => {
      const [capture, keys] = [join(folder, 'all.pcapng'), join(folder, 'all.keys')];
      const peer = await startPeer();
      await startServer(peer, '--capture', capture, '--keylog', keys);
      await peer.configure({ compact: true });
      await peer.open('here.test', port);
      expect((await peer.request('GET', VERSION, undefined, 20)).code).toBe('2.05');
      await server.end('SIGTERM');
      const { code, stdout } = await ravine('decode', '--file', capture, '--keylog', keys, '--json');
      expect(code).toBe(0);
      const { datagrams } = JSON.parse(stdout) as {
        readonly datagrams: readonly {
          readonly wire: number;
          readonly what: string;
          readonly layers: readonly {
            readonly bytes: number;
            readonly parts: readonly { readonly name: string }[];
          }[];
        }[];
      };
      expect(datagrams.filter(({ what }) => what.includes('CON GET'))).toHaveLength(20);
      for (const { wire, layers } of datagrams)
        expect(layers.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(wire);
      const names = datagrams.flatMap(({ layers }) =>
        layers.flatMap(({ parts }) => parts.map(({ name }) => name)),
      );
      expect(names).not.toContain('sealed');
      expect(names).not.toContain('payload, sealed');
      expect(names).toContain('server name');
    });

    it('is called with XX, agrees on compact headers and answers in them', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.configure({
        compact: true,
        answer: [403, { errcode: 'M_FORBIDDEN', error: 'not for you' }],
      });
      const token = await server.register('alice');
      expect((await askPeer(token)).status).toBe(403);
      const { counts, handled } = await peer.state();
      expect(handled[0]!.target).toMatch(/make_join/);
      expect(counts['compact 10']).toBe(1);
    });

    it('is called with XX and answers', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.configure({ answer: [403, { errcode: 'M_FORBIDDEN', error: 'not for you' }] });
      const token = await server.register('alice');
      expect(await askPeer(token)).toEqual({
        status: 403,
        json: { errcode: 'M_FORBIDDEN', error: 'not for you' },
      });
      const { handled } = await peer.state();
      expect(handled[0]!.target).toMatch(/^\/_matrix\/federation\/v1\/make_join\/.*room.*peer\.test/);
      const received = await kinds(peer, 'received');
      expect([received[XX1!], received[XX3!]]).toEqual([1, 1]);
    });

    it('goes through two epochs, with numbers of one byte while it tells what it has seen', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.open('here.test', port);
      await peer.request('GET', VERSION, undefined, 2_100);
      const { records, next, highest } = await peer.state();
      expect(Math.min(next, highest)).toBeGreaterThan(2_048);
      expect(records['sent 1'] ?? 0).toBe(0);
      expect(records['received 1'] ?? 0).toBe(0);
      expect(records.told).toBeGreaterThan(20);
    });

    it('gets longer numbers where it does not tell what it has seen', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.open('here.test', port);
      await peer.configure({ tells: false });
      await peer.request('GET', VERSION, undefined, 200);
      const { records } = await peer.state();
      expect(records['received 0']).toBeLessThanOrEqual(129);
      expect(records['received 1']).toBeGreaterThan(60);
    });

    it('goes on without a handshake after the server was killed and started again', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.open('here.test', port);
      await peer.request('GET', VERSION, undefined, 10);
      const before = await kinds(peer, 'received');
      await server.end('SIGKILL');
      await server.start();
      expect((await peer.request('GET', VERSION)).code).toBe('2.05');
      await peer.request('GET', VERSION, undefined, 10);
      const after = await kinds(peer, 'received');
      for (const kind of [XX1!, XX2!, XX3!, IK1!, IK2!, HINT!]) expect(after[kind]).toBe(before[kind]);
      expect(after[CONTROL!]! - before[CONTROL!]!).toBe(1);
      const { counts, records } = await peer.state();
      expect(counts['restarts of the peer']).toBe(1);
      expect(records['received 3']).toBeGreaterThan(0);
      // The salt is confirmed: nobody says it any more.
      await peer.request('GET', VERSION);
      expect((await peer.state()).records['received 3']).toBe(records['received 3']);
    });

    it('goes on without a handshake after it has started again itself', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.open('here.test', port);
      await peer.request('GET', VERSION, undefined, 10);
      const before = await kinds(peer, 'received');
      await peer.restart();
      expect((await peer.state()).salted).toBe(true);
      await peer.request('GET', VERSION, undefined, 10);
      const after = await kinds(peer, 'received');
      for (const kind of [XX1!, XX2!, IK1!, IK2!, HINT!]) expect(after[kind]).toBe(before[kind]);
      expect((await peer.state()).salted).toBe(false);
    });

    it('finds the server again where both were started anew', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.open('here.test', port);
      await peer.request('GET', VERSION, undefined, 10);
      const before = await kinds(peer, 'received');
      await server.end('SIGKILL');
      await peer.restart();
      await server.start();
      await peer.request('GET', VERSION, undefined, 10);
      const after = await kinds(peer, 'received');
      for (const kind of [XX1!, XX2!, IK1!, IK2!, HINT!]) expect(after[kind]).toBe(before[kind]);
      const { salted, counts } = await peer.state();
      expect({ salted, restarts: counts['restarts of the peer'] }).toEqual({ salted: false, restarts: 1 });
    });

    it('opens with IK where it knows the server, and with XXfallback where it is mistaken', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.open('here.test', port);
      await peer.request('GET', VERSION);
      expect(await peer.open('here.test', port, { known: true })).toEqual({ closed: null, fallback: false });
      expect((await peer.request('GET', VERSION)).code).toBe('2.05');
      let received = await kinds(peer, 'received');
      expect([received[XX2!], received[IK2!]]).toEqual([1, 1]);
      // What IK agreed about is kept like any session.
      await server.end('SIGKILL');
      await server.start();
      expect((await peer.request('GET', VERSION)).code).toBe('2.05');
      const mistaken = { known: true, 'wrong identity': true };
      expect(await peer.open('here.test', port, mistaken)).toEqual({ closed: null, fallback: true });
      expect((await peer.request('GET', VERSION)).code).toBe('2.05');
      received = await kinds(peer, 'received');
      expect([received[XX2!], received[IK2!], received[HINT!]]).toEqual([2, 1, 0]);
    });

    it('is called with IK after it has forgotten the session, and with XXfallback after it has forgotten all', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.configure({ answer: [403, { errcode: 'M_FORBIDDEN', error: 'not for you' }] });
      const token = await server.register('alice');
      await askPeer(token);
      await peer.forget();
      expect((await askPeer(token)).status).toBe(403);
      let received = await kinds(peer, 'received');
      expect([received[XX1!], received[IK1!], received[XX3!]]).toEqual([1, 1, 1]);
      await peer.forget({ peers: true });
      expect((await askPeer(token)).status).toBe(403);
      received = await kinds(peer, 'received');
      expect([received[XX1!], received[XX3!]]).toEqual([1, 2]);
      // A record behind a salt gets a hint as well.
      await server.end('SIGKILL');
      await peer.forget();
      await server.start();
      expect((await askPeer(token)).status).toBe(403);
      received = await kinds(peer, 'received');
      expect([received[XX1!], received[XX3!]]).toEqual([1, 2]);
      expect((await peer.state()).counts['sent kind 7']).toBeGreaterThanOrEqual(3);
    });

    it('begins with a version that the server has not got', async () => {
      const peer = await startPeer();
      await startServer(peer);
      expect(await peer.open('here.test', port, { version: 0x21 })).toEqual({
        closed: null,
        fallback: false,
      });
      expect((await peer.request('GET', VERSION)).code).toBe('2.05');
      expect((await peer.state()).counts.versions).toBe(1);
    });

    it('gets in with a cookie while the server is flooded', async () => {
      const [known, peer] = [await startPeer(), await startPeer('stranger.test')];
      await startServer(known);
      await peer.flood('here.test', port, 200);
      expect(await peer.open('here.test', port)).toEqual({ closed: null, fallback: false });
      expect((await peer.request('GET', VERSION)).code).toBe('2.05');
      const { counts } = await peer.state();
      expect(counts.cookies).toBeGreaterThan(0);
      // Answers to the flood: as many as may go to strangers at once.
      expect(counts['unknown id']).toBeLessThan(100);
    });

    it('is not disturbed by forged records and repetitions', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.open('here.test', port);
      await peer.request('GET', VERSION);
      const before = await kinds(peer, 'received');
      for (const bit of [0, 7]) expect(await peer.forge(bit)).toBeGreaterThan(20);
      expect((await peer.request('GET', VERSION)).code).toBe('2.05');
      const after = await kinds(peer, 'received');
      // One answer, to the one request.
      expect(after.map((count, kind) => count - before[kind]!)).toEqual([1, 0, 0, 0, 0, 0, 0, 0]);
    });

    it('has its session ended by a close record', async () => {
      const peer = await startPeer();
      await startServer(peer);
      await peer.open('here.test', port);
      await peer.request('GET', VERSION);
      await peer.close('done');
      await expect.poll(() => server.output).toContain('done');
      const unanswered = peer.request('GET', VERSION);
      await expect.poll(async () => (await kinds(peer, 'received'))[HINT!]).toBe(1);
      await peer.open('here.test', port, { known: true });
      expect((await unanswered).code).toBe('2.05');
    });

    it('is refused with a reason where the server knows that name by another key', async () => {
      const [genuine, impostor] = [await startPeer(), await startPeer()];
      await startServer(genuine);
      await genuine.open('here.test', port);
      await genuine.request('GET', VERSION);
      const { closed } = await impostor.open('here.test', port);
      expect(closed).toMatch(/key/);
      expect((await impostor.state()).counts[`control ${CLOSE}`]).toBeGreaterThan(0);
      expect((await impostor.state()).counts[`received kind ${DATA}`] ?? 0).toBe(0);
      expect((await genuine.request('GET', VERSION)).code).toBe('2.05');
    });
  },
);
