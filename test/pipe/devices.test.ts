import { describe, expect, it } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { PipeConfig } from '../../src/pipe/endpoint.ts';
import { createDeviceIdentity, deviceKeyOf, isServerName, nameOf } from '../../src/pipe/identity.ts';
import type { PipeLimits } from '../../src/pipe/limits.ts';
import { Disk, identityOf, Network, Side } from './harness.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const SERVER = 'server.example';

/** A client at an address, and the name under which servers know it. */
function device(network: Network, address: string, seed: number): Side & { readonly peerName: string } {
  const random = seededRandom(seed);
  const identity = createDeviceIdentity(random.bytes(32));
  // The name is one that nobody has: a device has none.
  const side = new Side(network, address, identityOf(`${address}.nobody`, random), random);
  side.config = { identity };
  side.disk = new Disk();
  side.restart();
  network.join(side);
  return Object.assign(side, { peerName: nameOf(identity) });
}

function world(config: Partial<PipeConfig> = { acceptDevices: true }, limits: Partial<PipeLimits> = {}) {
  const network = new Network();
  const server = network.add(SERVER, 's', 1, limits);
  server.config = config;
  server.disk = new Disk();
  server.restart();
  server.onPayload = (peer, text) => server.send(peer, `re ${text}`);
  const phone = device(network, 'phone', 2);
  return { network, server, phone };
}

const talk = ({ network, phone }: ReturnType<typeof world>, text: string): void => {
  phone.send(SERVER, text);
  network.advance(MINUTE);
  expect(phone.payloads.at(-1)).toBe(`${SERVER}: re ${text}`);
};

const handshakes = (network: Network): string[] => network.labels().filter((label) => / (XX|IK)/.test(label));

describe('a device', () => {
  it('has a name that no server can have', () => {
    const { phone } = world();
    expect(deviceKeyOf(phone.peerName)).toMatch(/^[0-9a-f]{64}$/);
    expect(isServerName(phone.peerName)).toBe(false);
    expect(isServerName(phone.peerName.slice(0, -1))).toBe(true);
    expect(deviceKeyOf(SERVER)).toBeUndefined();
  });

  it('opens a session with XX, in which it says nothing but its key, and is answered on it', () => {
    const sides = world();
    const { network, server, phone } = sides;
    talk(sides, 'hello');
    expect(handshakes(network)).toEqual(['phone XX1', 's XX2', 'phone XX3']);
    const third = network.captured.find(({ datagram }) => datagram.label === 'XX3')!;
    expect(third.datagram.bytes).toHaveLength(2 + 48 + 9 + 16);
    expect(server.payloads).toEqual([`${phone.peerName}: hello`]);
    expect(server.events.filter(({ kind }) => kind === 'identity')).toMatchObject([
      { claim: { kind: 'device' }, address: 'phone' },
    ]);
    expect(phone.events.filter(({ kind }) => kind === 'identity')).toMatchObject([
      { claim: { kind: 'server', serverName: SERVER } },
    ]);
  });

  it('renews with IK, falls back to XX where the server has forgotten it, and goes on after restarts', () => {
    const sides = world();
    const { network, server, phone } = sides;
    talk(sides, 'hello');
    network.captured.length = 0;
    phone.run(phone.endpoint.renew(SERVER, phone.now));
    network.advance(MINUTE);
    expect(handshakes(network)).toEqual(['phone IK1', 's IK2']);
    talk(sides, 'after IK');

    network.captured.length = 0;
    server.restart();
    phone.restart();
    phone.send(SERVER, 'sealed before the server has heard of the start');
    network.advance(MINUTE);
    talk(sides, 'after the restarts');
    expect(handshakes(network)).toEqual([]);
    expect(server.events.findLast(({ kind }) => kind === 'identity')).toMatchObject({
      claim: { kind: 'device' },
    });

    server.disk!.rows = new Map();
    server.restart();
    phone.run(phone.endpoint.renew(SERVER, phone.now));
    network.advance(MINUTE);
    expect(handshakes(network).slice(0, 3)).toEqual(['phone IK1', 's XX2', 'phone XX3']);
    talk(sides, 'after the fallback');
  });

  it('is refused by a server that has no pipes for clients, also after a restart of one that had', () => {
    const refusing = world({});
    refusing.phone.send(SERVER, 'hello');
    refusing.network.advance(MINUTE);
    expect(refusing.server.events.map(({ kind }) => kind)).toEqual(['refused']);
    expect(refusing.phone.events.findLast(({ kind }) => kind === 'refused')).toMatchObject({ by: 'peer' });

    const sides = world();
    talk(sides, 'hello');
    sides.server.config = {};
    sides.server.restart();
    expect(sides.server.endpoint.sizes.sessions).toBe(0);
    expect(sides.server.disk!.rows.size).toBe(0);
  });

  it('sends nothing of its own, and does not show its key, before it trusts the server', () => {
    const { network, server, phone } = world();
    phone.trust = () => ({ trusted: false, reason: 'another key than before' });
    phone.send(SERVER, 'password');
    network.advance(20 * MINUTE);
    expect(
      new Set(network.captured.filter(({ from }) => from === 'phone').map(({ datagram }) => datagram.label)),
    ).toEqual(new Set(['XX1']));
    expect(server.payloads).toEqual([]);
    expect(server.events).toEqual([]);

    // Trusted late: until then nothing goes.
    const late = world();
    late.phone.decisionDelay = () => 5_000;
    late.phone.send(SERVER, 'password');
    late.network.advance(4_000);
    expect(handshakes(late.network)).not.toContain('phone XX3');
    expect(late.network.labels().filter((label) => label.includes('data'))).toEqual([]);
    late.network.advance(MINUTE);
    expect(late.server.payloads).toEqual([`${late.phone.peerName}: password`]);
  });

  it('gets to the genuine server though somebody else answers first, and its messages go to nobody else', () => {
    const { network, server, phone } = world();
    phone.trust = ({ signingPublic }) =>
      hex(signingPublic) === hex(server.identity.signingPublic)
        ? { trusted: true }
        : { trusted: false, reason: 'not the pinned one' };
    const shadow = new Network();
    const mallory = new Side(shadow, 's', identityOf(SERVER, seededRandom(70)), seededRandom(71));
    mallory.config = { acceptDevices: true };
    mallory.restart();
    shadow.join(mallory);
    network.onSend = (from, { label, bytes }) => {
      if (from !== 'phone') return;
      const before = shadow.captured.length;
      mallory.run(mallory.endpoint.receive('phone', bytes, network.clock.monotonic()));
      if (label !== 'XX1') return;
      for (const { datagram } of shadow.captured.slice(before))
        network.clock.after(1, () => network.deliver('s', 'phone', datagram.bytes));
    };
    phone.send(SERVER, 'password');
    network.advance(MINUTE);
    expect(phone.events.filter(({ kind }) => kind === 'identity')).toHaveLength(2);
    expect(server.payloads).toEqual([`${phone.peerName}: password`]);
    expect([mallory.payloads, mallory.events]).toEqual([[], []]);
  });

  it('gets through though a changed copy of each of its handshake messages comes first', () => {
    const sides = world();
    const { network, server, phone } = sides;
    const random = seededRandom(5);
    network.channel = ({ datagram: { bytes, label }, from }) => {
      const changed = bytes.slice();
      changed[2 + random.integer(bytes.length - 2)]! ^= 1 + random.integer(255);
      const isHandshake = from === 'phone' && /^(XX|IK)/.test(label);
      return [...(isHandshake ? [{ after: 10, bytes: changed }] : []), { after: 20, bytes }];
    };
    for (let i = 0; i < 30; i++) {
      phone.send(SERVER, `${i}`);
      network.advance(MINUTE);
      expect(server.payloads.at(-1)).toBe(`${phone.peerName}: ${i}`);
      if (i % 3 === 0) server.run(server.endpoint.forget(phone.peerName, 'again', server.now));
      else phone.run(phone.endpoint.renew(SERVER, phone.now));
      network.advance(5 * MINUTE);
    }
    const keys = server.events.flatMap((event) =>
      event.kind === 'identity' && event.claim.kind === 'device' ? [nameOf(event.claim)] : [],
    );
    expect(new Set(keys)).toEqual(new Set([phone.peerName]));
  });

  it('answers nobody who calls it, and is called by no server', () => {
    const { network, server, phone } = world();
    server.send('phone.nobody', 'who are you?');
    network.advance(MINUTE);
    expect(network.captured.filter(({ from }) => from === 'phone')).toEqual([]);
    server.endpoint.setPeer(phone.peerName, 'phone');
    network.captured.length = 0;
    server.run(
      server.endpoint.send(
        phone.peerName,
        [{ bytes: Uint8Array.of(0x60), priority: 1, receipt: 7, label: '' }],
        server.now,
      ),
    );
    server.run(server.endpoint.renew(phone.peerName, server.now));
    expect(server.events.at(-1)).toEqual({ kind: 'dropped', receipt: 7 });
    expect(handshakes(network)).toEqual([]);
  });

  it('whose clock stands at its start again, and which has kept nothing, is heard all the same', () => {
    const sides = world();
    const { network, server, phone } = sides;
    phone.config = { ...phone.config, wallOrigin: HOUR };
    phone.restart();
    talk(sides, 'hello');
    phone.config = { ...phone.config, wallOrigin: -10 * MINUTE };
    phone.disk = new Disk();
    phone.restart();
    network.captured.length = 0;
    phone.send(SERVER, 'lost with the session that is numbered too low');
    network.advance(MINUTE);
    talk(sides, 'again');
    const generations = server.disk!.load().map(({ generation }) => generation);
    expect(new Set(generations).size).toBe(generations.length);
    expect(handshakes(network).filter((label) => label === 'phone XX1')).toHaveLength(1);
    expect(handshakes(network).filter((label) => label === 'phone IK1')).toHaveLength(1);
  });
});

describe('what is forgotten of a device', () => {
  it('ends its session at once, on the disk as well, and the next one begins from nothing', () => {
    const sides = world();
    const { network, server, phone } = sides;
    talk(sides, 'hello');
    network.captured.length = 0;
    server.run(server.endpoint.forget(phone.peerName, 'logged out', server.now));
    expect(server.disk!.rows.size).toBe(0);
    network.advance(1_000);
    expect(phone.events.at(-1)).toEqual({ kind: 'refused', by: 'peer', peer: SERVER, reason: 'logged out' });
    expect(phone.disk!.rows.size).toBe(0);
    phone.send(SERVER, 'hello again');
    network.advance(MINUTE);
    expect(handshakes(network)[0]).toBe('phone XX1');
    expect(server.payloads.at(-1)).toBe(`${phone.peerName}: hello again`);
  });

  it('also goes where the close record is lost: what comes on the session is refused', () => {
    const sides = world();
    const { network, server, phone } = sides;
    talk(sides, 'hello');
    network.channel = () => [];
    server.run(server.endpoint.forget(phone.peerName, 'logged out', server.now));
    network.advance(1_000);
    network.channel = ({ datagram: { bytes } }) => [{ after: 20, bytes }];
    phone.send(SERVER, 'still there?');
    network.advance(1_000);
    expect(server.payloads).toEqual([`${phone.peerName}: hello`]);
    expect(phone.events.at(-1)).toMatchObject({ kind: 'refused', by: 'peer', reason: 'logged out' });
  });

  it('is who it was: an IK1 of the device is not read any more', () => {
    const sides = world();
    const { network, server, phone } = sides;
    talk(sides, 'hello');
    network.channel = () => [];
    server.run(server.endpoint.forget(phone.peerName, 'logged out', server.now));
    network.advance(1_000);
    network.channel = ({ datagram: { bytes } }) => [{ after: 20, bytes }];
    network.captured.length = 0;
    phone.run(phone.endpoint.renew(SERVER, phone.now));
    network.advance(MINUTE);
    expect(handshakes(network).slice(0, 3)).toEqual(['phone IK1', 's XX2', 'phone XX3']);
  });

  it('includes sessions that nobody has decided about, and what has only begun', () => {
    const sides = world();
    const { network, server, phone } = sides;
    server.decisionDelay = () => 10_000;
    phone.send(SERVER, 'hello');
    network.advance(1_000);
    expect(server.endpoint.sizes.undecided).toBe(1);
    server.run(server.endpoint.forget(phone.peerName, 'logged out', server.now));
    network.advance(20_000);
    expect(server.payloads).toEqual([]);
    expect(server.endpoint.sizes).toMatchObject({ sessions: 0, undecided: 0 });

    server.decisionDelay = () => 0;
    network.advance(5 * MINUTE);
    talk(sides, 'hello');
    // An IK1 whose session no record has shown to be new yet.
    network.channel = ({ datagram: { bytes, label } }) => (label === 'IK2' ? [] : [{ after: 20, bytes }]);
    phone.run(phone.endpoint.renew(SERVER, phone.now));
    network.advance(100);
    const { halfOpen } = server.endpoint.sizes;
    server.run(server.endpoint.forget(phone.peerName, 'logged out', server.now));
    expect(server.endpoint.sizes.halfOpen).toBe(halfOpen - 1);
  });
});

describe('many devices', () => {
  it('push out each other, and neither a session with a server nor its handshake', () => {
    const limits = {
      ...{ sessions: 4, deviceSessions: 3, devices: 5, peers: 5, halfOpen: 3, deviceHalfOpen: 2 },
      ...{ undecided: 2, deviceUndecided: 2, answersPerSecond: 1_000, answersBurst: 1_000 },
    };
    const { network, server } = world({ acceptDevices: true }, limits);
    const other = network.add('other.example', 'o', 50);
    other.send(SERVER, 'from a server');
    network.advance(1_000);
    // A server whose XX3 gets lost, and one that waits for a decision.
    const [slow, waiting] = [network.add('slow.example', 'w', 51), network.add('waiting.example', 'v', 52)];
    network.channel = ({ datagram: { bytes, label }, from }) =>
      from === 'w' && label === 'XX3' ? [] : [{ after: 20, bytes }];
    slow.send(SERVER, 'late');
    network.advance(100);
    server.decisionDelay = () => 3_000;
    waiting.send(SERVER, 'undecided');
    network.advance(100);
    server.decisionDelay = () => 30;
    for (let i = 0; i < 40; i++) {
      device(network, `d${i}`, 100 + i).send(SERVER, 'hello');
      if (i % 4 === 3) network.advance(100);
    }
    network.advance(MINUTE);
    const { sizes } = server.endpoint;
    expect(sizes.sessions).toBeLessThanOrEqual(3 + limits.deviceSessions);
    expect(server.payloads).toContain('waiting.example: undecided');
    network.channel = ({ datagram: { bytes } }) => [{ after: 20, bytes }];
    network.captured.length = 0;
    other.send(SERVER, 'still there');
    network.advance(5 * MINUTE);
    expect(other.payloads.at(-1)).toBe(`${SERVER}: re still there`);
    expect(handshakes(network).filter((label) => label.startsWith('o '))).toEqual([]);
    expect(server.events).toContainEqual(
      expect.objectContaining({ kind: 'established', peer: 'slow.example' }),
    );
    expect(handshakes(network)).not.toContain('w XX1');
    expect(sizes.peers).toBeLessThanOrEqual(limits.devices + limits.peers);
  });
});
