import { hex } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { DEFAULT_LIMITS } from '../../src/pipe/limits.ts';
import { Attacker } from './attacked/attacker.ts';
import { counters, hold, seals, worst } from './attacked/invariants.ts';
import { IDENTITIES, Log, MovingNetwork, Node, RETRY_MS } from './attacked/world.ts';
import { Disk } from './harness.ts';

/*
 *   server a ══╗                                 one of them moves, each is started again at any step,
 *              ╠══ a network, an attacker ══ server b     now and then on an older copy of its disk
 *   device d ══╝
 *
 * Half a minute of that; then the network is good and the attacker silent, and both ask.
 */

const ATTACK_MS = 30_000;
const LONGEST_DELAY_MS = 20_000;
const LIMITS = { lingerMs: 10_000, answersPerSecond: 100, answersBurst: 200 };
const FORGOTTEN_MS = DEFAULT_LIMITS.halfOpenMs + LIMITS.lingerMs;

/*
 * The bound of healing: so many copies of a request that is made when the attack is over, each a round trip and three seconds behind the
 * one before; and so many first messages of all three together. What takes longest is the timer of a handshake that had backed
 * off in the attack, to as long as that has lasted, then its jitter, and after it the one of an IK1 to an address that is left.
 */
const HEALING_COPIES = 30;
const HEALING_HANDSHAKES = 12;

const STEPS = /^(XX1|XX2|XX3|IK1|IK2|ask|data)/;

/** One run. Throws what does not hold. */
export function simulate(seed: number): void {
  seals.reset();
  const random = seededRandom(seed);
  const network = new MovingNetwork();
  const log = new Log();
  // One run in eight has a server of the form before compact headers.
  const isCompact = seed % 8 !== 5;
  const variant = (own: number): number => (seed >> own) & 1;
  const [a, b, d] = (
    [
      ['a', IDENTITIES.a[variant(2)]!, true],
      ['b', IDENTITIES.b[variant(3)]!, isCompact],
      ['d', IDENTITIES.device[variant(4)]!, true],
    ] as const
  ).map(([address, identity, speaksCompact], i) => {
    const own = { identity, address, variant: variant(4), random: seededRandom(seed * 7 + i), log, network };
    const node = new Node({ ...own, isCompact: speaksCompact && isCompact }, LIMITS);
    network.join(node);
    return node;
  }) as [Node, Node, Node];
  const nodes = [a, b, d];
  const keys = new Map([a, b].map((node) => [node.name, hex(node.identity.signingPublic)]));
  keys.set('mallory.example', hex(IDENTITIES.mallory[variant(4)]!.signingPublic));
  // Of every four runs one has no store, one has one on one side, and one restores older images.
  const kind = seed % 4;
  for (const node of nodes) {
    node.trust = ({ serverName, signingPublic }) =>
      keys.get(serverName) === hex(signingPublic)
        ? { trusted: true }
        : { trusted: false, reason: 'unknown key' };
    node.decisionDelay = () => (random.integer(2) === 0 ? 0 : random.integer(500));
    if (kind >= 2 || (kind === 1 && node === a)) {
      node.disk = new Disk();
      node.commitDelay = () => [random.integer(60), random.integer(20)];
    }
    node.restart();
  }
  const attacker = new Attacker(network, random, { log, variant: variant(4), victims: [a, b] });
  const run = { seed, random, network, nodes, a, b, d, attacker };
  const attack = startAttack(run);
  network.advance(ATTACK_MS);
  attack.end();
  checkNonces();
  heal(run);
  // What was held back comes yet: an XX3 makes a session with a start of the peer that is over, and the next request finds out.
  network.advance(LONGEST_DELAY_MS);
  attacker.replayEverything();
  heal(run);
  check(run);
}

interface Run {
  readonly seed: number;
  readonly random: Random;
  readonly network: MovingNetwork;
  readonly nodes: readonly Node[];
  readonly a: Node;
  readonly b: Node;
  readonly d: Node;
  readonly attacker: Attacker;
}

/** Whom each asks. A server asks no device by itself. */
const asks = ({ a, b, d }: Run): readonly (readonly [Node, string])[] => [
  [a, b.name],
  [b, a.name],
  [d, b.name],
];

function startAttack(run: Run): { end(): void } {
  const { random, network, a, d, attacker } = run;
  const { clock } = network;
  const links = asks(run);
  let attacking = true;
  const soon = (action: () => void): void => {
    clock.after(random.integer(ATTACK_MS), action);
  };
  const loss = random.fraction() * 0.5;
  const blocked = ['XX2', 'XX3', 'IK2', 'data', 'confirm', 'nothing'][random.integer(6)]!;
  const blockedFrom = random.integer(ATTACK_MS);
  network.channel = ({ from, to, datagram: { label, bytes } }) => {
    attacker.saw({ to, bytes });
    const delay = 10 + random.integer(20);
    if (!attacking) return [{ after: delay, bytes }];
    const now = clock.monotonic();
    if (/1$/.test(label) && random.integer(4) === 0) attacker.answer(from, to, bytes);
    if (label.startsWith(blocked) && now >= blockedFrom && now < blockedFrom + 8_000) {
      counters.blocked++;
      return [];
    }
    if (random.fraction() < loss) {
      counters.lost++;
      return [];
    }
    const copies = [{ after: delay, bytes }];
    if (random.fraction() < 0.1) {
      counters.duplicated++;
      copies.push({ after: delay + random.integer(5_000), bytes });
    }
    if (random.fraction() < 0.1) {
      counters.reordered++;
      copies[0]!.after += random.integer(3_000);
    }
    if (random.fraction() < 0.03) {
      counters.heldBack++;
      copies[0]!.after += random.integer(LONGEST_DELAY_MS);
    }
    if (random.fraction() < 0.1) {
      counters.corrupted++;
      const changed = bytes.slice();
      changed[random.integer(bytes.length)]! ^= 1 + random.integer(255);
      copies[0]!.bytes = changed;
    }
    return copies;
  };
  restarts(run, () => attacking, soon);
  links[0]![0].request(links[0]![1]);
  if (random.integer(2) === 0) {
    counters.crossings++;
    links[1]![0].request(links[1]![1]);
  }
  for (let i = 0; i < 7; i++) {
    const [node, peer] = links[random.integer(3)]!;
    soon(() => node.request(peer));
    if (i % 3 === 0) soon(() => renew(node, peer));
  }
  for (let i = 0; i < 10; i++) soon(() => attacker.act());
  soon(() => attacker.replayEverything());
  for (let i = 0; i < random.integer(4); i++) {
    const node = random.integer(2) === 0 ? a : d;
    soon(() => {
      counters.moved++;
      network.move(node.address, `${node.address}${i}`);
    });
  }
  return {
    end() {
      attacking = false;
    },
  };
}

function renew(node: Node, peer: string): void {
  counters.renewals++;
  node.run(node.endpoint.renew(peer, node.now));
}

function restart(node: Node, mayRollBack: boolean, random: Random): void {
  counters.restarts++;
  let image = Number.POSITIVE_INFINITY;
  const { disk } = node;
  if (disk !== undefined) {
    if (disk.rows.size > 0) counters.restoredSessions++;
    if (node.isCommitting) counters.commitsLost++;
    if (mayRollBack && random.integer(3) === 0) {
      counters.rolledBack++;
      image = random.integer(disk.images.length);
      disk.rows = disk.images[image]!;
    }
  }
  node.startedAnew(image);
  node.restart();
}

/** Right after the n-th datagram, so at every step of a handshake; and at any time. */
function restarts(
  { seed, random, network, nodes }: Run,
  isAttacking: () => boolean,
  soon: (action: () => void) => void,
): void {
  const mayRollBack = seed % 4 === 3;
  const after = new Map([
    [random.integer(12), random.integer(3)],
    [random.integer(40), random.integer(3)],
  ]);
  let sent = 0;
  network.onSend = (_from, { label }) => {
    const which = isAttacking() ? after.get(sent++) : undefined;
    if (which === undefined) return;
    const step = STEPS.exec(label)?.[1] as keyof typeof counters.restarted | undefined;
    if (step !== undefined) counters.restarted[step]++;
    network.clock.after(random.integer(30), () => restart(nodes[which]!, mayRollBack, random));
  };
  for (let i = 0; i < 2; i++) {
    const node = nodes[random.integer(3)]!;
    soon(() => restart(node, mayRollBack, random));
  }
}

const opened = ({ network }: Run): number =>
  network.captured.filter(({ datagram }) => /1$/.test(datagram.label)).length;

/** Everybody asks; how many copies it takes, and how many handshakes, until all are answered and answer each other at once. */
function heal(run: Run): void {
  const { network, nodes } = run;
  const { clock } = network;
  const from = clock.monotonic();
  const before = opened(run);
  let copies = 0;
  for (const [node, peer] of asks(run)) {
    node.request(peer, (taken) => {
      copies = Math.max(copies, taken);
    });
  }
  const open = (): number => nodes.reduce((sum, { unanswered }) => sum + unanswered, 0);
  const end = from + HEALING_COPIES * RETRY_MS;
  for (let next = clock.next(); open() > 0 && next !== null && next <= end; next = clock.next()) clock.step();
  const took = `${clock.monotonic() - from} ms, ${opened(run) - before} first messages`;
  hold(
    'every session heals in a bounded number of round trips',
    open() === 0,
    () => `${open()} are open: ${took}`,
  );
  const begun = opened(run) - before;
  hold('every session heals in a bounded number of round trips', begun <= HEALING_HANDSHAKES, () => took);
  worst.copies = Math.max(worst.copies, copies);
  worst.handshakes = Math.max(worst.handshakes, begun);
  worst.milliseconds = Math.max(worst.milliseconds, clock.monotonic() - from);
}

const checkNonces = (): void =>
  hold('no key and nonce twice', seals.repeated.length === 0, () => seals.repeated.join());

function atOnce({ network, nodes, a, b }: Run): void {
  for (const node of nodes) node.request(node === b ? a.name : b.name);
  network.advance(RETRY_MS - 1);
  const late = nodes.filter(({ unanswered }) => unanswered > 0).map(({ address }) => address);
  hold(
    'every session heals in a bounded number of round trips',
    late.length === 0,
    () => `${late} wait still`,
  );
}

function check(run: Run): void {
  const { network, nodes, b, d, attacker } = run;
  atOnce(run);
  // Renewals are given up, and handshakes that were never finished are forgotten.
  network.advance(FORGOTTEN_MS);
  // What has been replaced is gone by now on one side, and perhaps was in use on the other.
  heal(run);
  atOnce(run);
  network.advance(FORGOTTEN_MS);
  checkNonces();
  const offered = new Set<string>();
  for (const { datagram } of network.captured) {
    const { label, bytes } = datagram;
    if (label in counters.seen) counters.seen[label as keyof typeof counters.seen]++;
    if (label.includes(' + ')) counters.severalInOneRecord++;
    if (label === 'IK1') offered.add(hex(bytes.subarray(2, 3)));
    if (label === 'XX2' && offered.has(hex(bytes.subarray(1, 2)))) counters.fallbacks++;
  }
  for (const node of nodes) {
    const { statistics, sizes } = node.endpoint;
    // The attacker may have one as well, as himself.
    const sessions = node === b ? 2 : 1;
    const isBounded =
      sizes.sessions >= sessions &&
      sizes.sessions <= sessions + (node === d ? 0 : attacker.ownSessions) &&
      sizes.openings + sizes.undecided + sizes.halfOpen === 0 &&
      sizes.connections === sizes.sessions;
    hold('everything stays within its bound', isBounded, () => `${node.name}: ${JSON.stringify(sizes)}`);
    counters.replaysDropped += statistics.replayed;
    counters.unauthenticated += statistics.unauthenticated;
    counters.hints += statistics.hintsSent;
    counters.stale += statistics.stale;
    counters.unknownMessages += statistics.unknown;
    for (const event of node.events) {
      if (event.kind === 'established') counters.sessions++;
      if (event.kind === 'established' && event.restarted) counters.restartsSeen++;
      if (event.kind === 'restarted') counters.restartsWithoutHandshake++;
      if (event.kind === 'refused') counters.refused++;
    }
  }
}
