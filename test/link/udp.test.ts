import { createSocket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import { describe, expect, it } from 'vitest';
import { openUdpLink, parseUdpAddress, type UdpLink } from '../../src/link/udp.ts';

const received = (link: UdpLink): Promise<{ from: string; bytes: Uint8Array }> =>
  new Promise((resolve) => link.onReceive((from, bytes) => resolve({ from, bytes })));

const hasIpv6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === '::1'),
);

describe('a UDP link', () => {
  it('carries datagrams over IPv4 and names both ends', async () => {
    const [a, b] = [
      await openUdpLink({ host: '127.0.0.1', port: 0 }),
      await openUdpLink({ host: '127.0.0.1', port: 0 }),
    ];
    expect(a.address).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(a.profile).toMatchObject({ rate: null, overhead: 42 });
    const arrival = received(b);
    a.send(b.address, Uint8Array.of(1, 2, 3));
    expect(await arrival).toEqual({ from: a.address, bytes: Uint8Array.of(1, 2, 3) });
    await Promise.all([a.close(), a.close(), b.close()]);
    a.send(b.address, Uint8Array.of(1));
  });

  it.skipIf(!hasIpv6)(
    'carries datagrams over IPv6, and IPv4 through the same socket (skipped where there is no ::1)',
    async () => {
      const six = await openUdpLink({ host: '::', port: 0 });
      const [one, four] = [
        await openUdpLink({ host: '::1', port: 0 }),
        await openUdpLink({ host: '127.0.0.1', port: 0 }),
      ];
      const { port } = parseUdpAddress(six.address)!;
      const first = received(six);
      one.send(`[::1]:${port}`, Uint8Array.of(6));
      expect(await first).toEqual({ from: one.address, bytes: Uint8Array.of(6) });
      const second = received(six);
      four.send(`127.0.0.1:${port}`, Uint8Array.of(4));
      expect((await second).from).toBe(four.address);
      const back = received(four);
      six.send(four.address, Uint8Array.of(5));
      expect((await back).bytes).toEqual(Uint8Array.of(5));
      await Promise.all([six.close(), one.close(), four.close()]);
    },
  );

  it('takes the profile that it is given and rejects where the port is taken', async () => {
    const a = await openUdpLink({ host: '127.0.0.1', port: 0, profile: { rate: 100, delay: 2_000 } });
    expect(a.profile).toMatchObject({ rate: 100, delay: 2_000, overhead: 42 });
    const { port } = parseUdpAddress(a.address)!;
    await expect(openUdpLink({ host: '127.0.0.1', port })).rejects.toThrow('EADDRINUSE');
    await a.close();
  });

  it('loses what it cannot send, and goes on', async () => {
    const [a, b] = [
      await openUdpLink({ host: '127.0.0.1', port: 0 }),
      await openUdpLink({ host: '127.0.0.1', port: 0 }),
    ];
    for (const to of ['', 'b', 'localhost:1', '[::1]:1', '1.2.3.4', '1.2.3.4:0', '1.2.3.4:65536'])
      a.send(to, Uint8Array.of(1));
    expect(a.failures).toBe(7);
    // Nobody listens there any more.
    const gone = createSocket('udp4');
    await new Promise<void>((resolve) => gone.bind(0, '127.0.0.1', resolve));
    const { port } = gone.address();
    await new Promise<void>((resolve) => gone.close(() => resolve()));
    a.send(`127.0.0.1:${port}`, Uint8Array.of(1));
    const arrival = received(b);
    a.send(b.address, Uint8Array.of(2));
    expect((await arrival).bytes).toEqual(Uint8Array.of(2));
    await Promise.all([a.close(), b.close()]);
  });

  it('reads addresses', () => {
    expect(parseUdpAddress('127.0.0.1:5683')).toEqual({ host: '127.0.0.1', port: 5683 });
    expect(parseUdpAddress('[fe80::1%eth0]:5683')).toEqual({ host: 'fe80::1%eth0', port: 5683 });
    expect(parseUdpAddress('::1:5683')).toBeUndefined();
    expect(parseUdpAddress('[127.0.0.1]:5683')).toBeUndefined();
  });
});
