import { Command } from 'commander';
import { systemRandom } from '../base/random.ts';
import { systemClock } from '../base/time.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD, type Link } from '../link/link.ts';
import { resolvingLink } from '../link/resolving.ts';
import { SimulatedNetwork } from '../link/simulated.ts';
import { openUdpLink } from '../link/udp.ts';
import { lookupAddress } from '../server/lookup.ts';
import { hostAndPort, integer, probability } from './arguments.ts';

interface Options {
  readonly left: string;
  readonly right: string;
  readonly listen: string;
  readonly leftPort: number;
  readonly rightPort: number;
  readonly rate: number;
  readonly latency: number;
  readonly loss: number;
}

/** The largest UDP payload. */
const MTU = 65_507;

export function linkCommand(): Command {
  return new Command('link')
    .description('A slow link between two UDP ports, in real time: passes datagrams on, late and lossy.')
    .requiredOption('--left <host:port>', 'the server on the left', hostAndPort)
    .requiredOption('--right <host:port>', 'the server on the right', hostAndPort)
    .option('--listen <address>', 'IP address to listen on', '127.0.0.1')
    .option('--left-port <port>', 'what the left server sends to', integer(0, 65_535), 6001)
    .option('--right-port <port>', 'what the right server sends to', integer(0, 65_535), 6002)
    .option('--rate <bits>', 'bits a second in each direction, on an Ethernet wire', integer(10, 1e10), 100)
    .option('--latency <ms>', 'one way, milliseconds', integer(0, 600_000), 1000)
    .option('--loss <probability>', 'of each datagram, 0 to 1', probability, 0)
    .addHelpText(
      'after',
      `
Examples:
  ravine link --left 127.0.0.1:5683 --right 127.0.0.1:5684 --rate 100 --latency 1000
  ravine link --left alpha:5683 --right bravo:5683 --listen 0.0.0.0 --rate 1200 --loss 0.1

The left server names its peer as ravine://<this machine>:6001, the right one as ravine://<this machine>:6002.`,
    )
    .action(runLink);
}

async function runLink(options: Options): Promise<void> {
  const network = new SimulatedNetwork({ clock: systemClock, random: systemRandom });
  const { rate, latency, loss } = options;
  network.connect('left', 'right', { rate, latency, loss });
  const open = async (port: number): Promise<Link & { readonly address: string }> => {
    const link = await openUdpLink({ host: options.listen, port });
    return Object.assign(resolvingLink({ link, lookup: lookupAddress, now: systemClock.monotonic }), {
      address: link.address,
    });
  };
  const sides = [
    { name: 'left', far: 'right', peer: options.left, socket: await open(options.leftPort) },
    { name: 'right', far: 'left', peer: options.right, socket: await open(options.rightPort) },
  ];
  for (const { name, far, peer, socket } of sides) {
    const end = network.join(name, { mtu: MTU, rate: null, delay: 0, overhead: ETHERNET_IPV4_UDP_OVERHEAD });
    socket.onReceive((_, bytes) => end.send(far, bytes));
    end.onReceive((_, bytes) => socket.send(peer, bytes));
    console.log(`${name}: ${peer} sends to ${socket.address}`);
  }
  const stop = (): void => {
    void Promise.all(sides.map(({ socket }) => socket.close())).then(() => process.exit(0));
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
}
