import { assert } from '../base/assert.ts';
import { equal } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import {
  agreementOf,
  type Capabilities,
  encodeCapabilities,
  NOTHING_AGREED,
  USUAL_MTU,
} from './agreement.ts';
import { type Answer, Answers } from './answers.ts';
import { Connections } from './connections.ts';
import { EarlyGenerations, type EarlyRequest, type HeldReplies } from './early_data.ts';
import type { PipeConfig, PipeDatagram, PipeEvent, PipeStatistics, PipeStep } from './events.ts';
import { BOOT_ID_BYTES, roomForParameters } from './handshake_payload.ts';
import { type IdentityClaim, keyVersionOf, type LocalIdentity, nameOf } from './identity.ts';
import { DEFAULT_LIMITS, type PipeLimits } from './limits.ts';
import { Messages } from './messages.ts';
import { type Network, networkOf, OPEN_NETWORK } from './network.ts';
import type { Candidate, Opening } from './opening.ts';
import type { Peer } from './peer.ts';
import { PeerTable } from './peer_table.ts';
import { type ConnectionId, VERSION_AND_SUITE } from './record.ts';
import type { StoredSession } from './resumption.ts';
import { Saving } from './saving.ts';
import type { Outgoing } from './send_queue.ts';
import { Sending } from './sending.ts';
import { type Payload, Session } from './session.ts';
import { Strangers } from './strangers.ts';
import { type HandshakeTiming, handshakeTimeout } from './timing.ts';

/**
 * What initiator, responder and records share: peers, sessions, and the step that is being made. Each input to the
 * endpoint ends with `step`.
 */
export class PipeState {
  readonly statistics: PipeStatistics = {
    malformed: 0,
    unauthenticated: 0,
    replayed: 0,
    stale: 0,
    throttled: 0,
    notHeld: 0,
    earlyTaken: 0,
    earlyDiscarded: 0,
    unknown: 0,
    hintsSent: 0,
    cookiesSent: 0,
    versionsSent: 0,
  };
  readonly identity: LocalIdentity;
  readonly random: Random;
  readonly network: Network;
  /** What this side says of itself in handshakes. */
  readonly capabilities: Uint8Array;
  readonly acceptsDevices: boolean;
  /** Whether IK1s to this side may carry requests. */
  readonly takesEarlyData: boolean;
  /** The longest datagram that goes out in one piece; at most what is usual. */
  readonly mtu: number;
  readonly earlyGenerations: EarlyGenerations;
  /** Versions and suites that this side has, best first. */
  readonly versions: readonly number[];
  readonly limits: PipeLimits;
  readonly timing: (address: Address) => HandshakeTiming;
  readonly bootId: Uint8Array;
  readonly connections: Connections<Opening | Answer | Session>;
  readonly answers: Answers;
  /** By the number that the driver decides about, oldest first. */
  readonly undecided = new Map<number, Candidate | Session | EarlyRequest>();
  readonly openings = new Map<number, Opening>();
  readonly established = new Set<Session>();
  /** Initiators' sessions of which no record has come yet, by the id of their XX3. */
  readonly unconfirmed = new Map<number, Session>();
  readonly retired = new Set<Session>();
  /** Peers whose next handshake waits for its time. */
  readonly postponed = new Set<Peer>();
  /** Peers for which replies to early data wait. */
  readonly holding = new Set<Peer>();
  readonly peers: PeerTable;
  readonly messages: Messages;
  /** Sessions that have gone on after a restart and that the driver has not decided about, by number. */
  readonly resumed = new Map<number, Session>();
  readonly saving: Saving;
  readonly sending: Sending;
  readonly strangers: Strangers;
  readonly #wallOrigin: Millis;
  datagrams: PipeDatagram[] = [];
  events: PipeEvent[] = [];
  #lastNumber = 0;

  constructor({
    identity,
    random,
    limits,
    handshakeTiming,
    isPersistent = false,
    wallOrigin = 0,
    network = OPEN_NETWORK,
    capabilities,
    acceptDevices = false,
    messageTimes,
    versions = [VERSION_AND_SUITE],
  }: PipeConfig) {
    this.identity = identity;
    this.random = random;
    this.network = networkOf(network);
    const told: Capabilities = { ...NOTHING_AGREED, compactHeader: true, ...capabilities };
    // What IK1 says is sealed without the pre-shared key: nobody has shown yet that he has it.
    const earlyData = told.earlyData && told.compactHeader && network.psk === undefined;
    this.takesEarlyData = earlyData && identity.kind === 'server';
    this.mtu = Math.min(told.mtu ?? USUAL_MTU, USUAL_MTU);
    this.capabilities = encodeCapabilities(
      { ...told, earlyData },
      {
        isDevice: identity.kind === 'device',
        room:
          identity.kind === 'device'
            ? Number.POSITIVE_INFINITY
            : roomForParameters(keyVersionOf(identity.signingKeyId)!.length),
      },
    );
    this.acceptsDevices = acceptDevices;
    this.versions = versions;
    this.limits = { ...DEFAULT_LIMITS, ...limits };
    this.peers = new PeerTable(this.limits);
    this.earlyGenerations = new EarlyGenerations(this.limits.earlyGenerations);
    this.timing = handshakeTiming;
    this.#wallOrigin = wallOrigin;
    this.bootId = random.bytes(BOOT_ID_BYTES);
    const firstId = this.bootId[0]! * 256 + this.bootId[1]!;
    this.messages = new Messages(
      { firstId, ...(messageTimes === undefined ? {} : { messageTimes }) },
      this.statistics,
    );
    this.connections = new Connections(random);
    this.answers = new Answers(this, this.bootId, this.limits.halfOpenMs);
    this.saving = new Saving(this, isPersistent);
    this.sending = new Sending(this);
    this.strangers = new Strangers(this);
  }

  /** Unix time in milliseconds, where the driver has said what it is. */
  wallTime(now: Millis): Millis {
    return now + this.#wallOrigin;
  }

  step(): PipeStep {
    const step = {
      writes: this.saving.takeWrites(),
      datagrams: this.datagrams,
      events: this.events,
      deadline: this.#deadline(),
    };
    this.datagrams = [];
    this.events = [];
    return step;
  }

  /** A session of an earlier process goes on, unless it was agreed about under another configuration. */
  restore(row: StoredSession, now: Millis): void {
    const isWelcome = row.claim.kind === 'server' || this.acceptsDevices;
    if (!isWelcome || !equal(row.network, this.network.digest)) {
      this.saving.forgetRow(row.local);
      return;
    }
    const { initiator, generation, claim, said, peerBoot, address } = row;
    const [local, remote] = [row.local as ConnectionId, row.remote as ConnectionId];
    // A clock that was set back makes no session younger than it was.
    const age = Math.max(now + this.#wallOrigin, row.savedAt) - row.createdAt;
    const number = this.nextNumber();
    const session = new Session(
      {
        ...{ number, initiator, local, remote, claim, generation, said, address },
        network: this.network,
        agreed: agreementOf(said),
        bootId: peerBoot,
        createdAt: now - age,
      },
      row,
      this.bootId,
    );
    session.state = 'established';
    session.heard = true;
    session.isKept = true;
    this.connections.set(local, session);
    this.established.add(session);
    const peer = this.peer(nameOf(claim));
    peer.add(session);
    peer.speaks(session.terms.agreed.compactHeader);
    this.resumed.set(number, session);
    this.events.push({ kind: 'identity', session: number, claim, address, isResumed: true });
    this.#makeRoomFor(session);
    this.saving.save(session, now);
  }

  /** The peer of a session has a new salt: it has started anew, which other sessions with it may know already. */
  startedAnew(session: Session, salt: Uint8Array, now: Millis): void {
    const peer = this.peer(nameOf(session.terms.claim));
    if (peer.startedAs(salt)) this.events.push({ kind: 'restarted', peer: peer.name });
    this.saving.save(session, now);
  }

  /** Names sessions, answers and handshakes to the driver. */
  nextNumber(): number {
    return ++this.#lastNumber;
  }

  /** The session to send on to `peer`. */
  current(peer: Peer): Session | undefined {
    return peer.current(this.identity.noisePublic);
  }

  #deadline(): Millis | null {
    let earliest = this.answers.dueAt ?? Number.POSITIVE_INFINITY;
    for (const opening of this.openings.values()) earliest = Math.min(earliest, opening.dueAt);
    for (const { unconfirmed } of this.unconfirmed.values())
      earliest = Math.min(earliest, unconfirmed!.dueAt);
    for (const { retireAt } of this.retired) earliest = Math.min(earliest, retireAt!);
    for (const { openAt } of this.postponed) earliest = Math.min(earliest, openAt!);
    for (const { held } of this.holding) earliest = Math.min(earliest, held!.until);
    const oldest: Candidate | Session | EarlyRequest | undefined = this.undecided.values().next().value;
    if (oldest !== undefined) {
      const { createdAt } = oldest.kind === 'session' ? oldest.terms : oldest;
      earliest = Math.min(earliest, createdAt + this.limits.undecidedMs);
    }
    return earliest === Number.POSITIVE_INFINITY ? null : earliest;
  }

  /** The peer of that name; see PeerTable. */
  peer(name: string): Peer {
    return this.peers.get(name);
  }

  /** Has `peer`'s next handshake begin at `until`; undefined: nothing is waiting any more. */
  postpone(peer: Peer, until: Millis | undefined): void {
    peer.openAt = until;
    if (until === undefined) this.postponed.delete(peer);
    else this.postponed.add(peer);
  }

  /** From now on replies to early data wait for a session with `peer`. */
  hold(peer: Peer, held: HeldReplies): void {
    peer.held = held;
    this.holding.add(peer);
  }

  /** Has them wait no longer. */
  takeHeld(peer: Peer): readonly Outgoing[] {
    const items: Outgoing[] = [];
    const { held } = peer;
    for (let item = held?.queue.take(); item !== undefined; item = held?.queue.take()) items.push(item);
    peer.held = undefined;
    this.holding.delete(peer);
    return items;
  }

  /** They go with everything else that waits. */
  releaseHeld(peer: Peer, now: Millis): void {
    for (const item of this.takeHeld(peer)) this.dropped(peer.queue.add(item, now));
  }

  dropped(items: readonly Outgoing[]): void {
    for (const { receipt } of items) if (receipt !== null) this.events.push({ kind: 'dropped', receipt });
  }

  timeout(address: Address, attempt: number, awaited: readonly number[]): Millis {
    return handshakeTimeout(this.timing(address), attempt, awaited, this.random.fraction());
  }

  /** Ends an opening, whether or not a session has come of it. */
  cancel(opening: Opening): void {
    this.connections.delete(opening.local, opening);
    this.openings.delete(opening.id);
    for (const { number } of opening.undecided) this.undecided.delete(number);
    opening.undecided = [];
    const peer = this.peer(opening.peer);
    if (peer.opening === opening) peer.opening = undefined;
  }

  /** Has the driver decide about an identity, which came from `address`. */
  ask(waiting: Candidate | Session | EarlyRequest, address: Address): void {
    const number = waiting.kind === 'session' ? waiting.terms.number : waiting.number;
    const claim = claimOf(waiting);
    const most = claim.kind === 'device' ? this.limits.deviceUndecided : this.limits.undecided;
    const rivals = [...this.undecided.values()].filter((other) => claimOf(other).kind === claim.kind);
    if (rivals.length >= most) this.removeUndecided(rivals[0]!);
    this.undecided.set(number, waiting);
    this.events.push({ kind: 'identity', session: number, claim, address, isResumed: false });
  }

  removeUndecided(waiting: Candidate | Session | EarlyRequest): void {
    if (waiting.kind === 'session') {
      this.forget(waiting);
      return;
    }
    this.undecided.delete(waiting.number);
    if (waiting.kind === 'early') {
      this.statistics.earlyDiscarded++;
      return;
    }
    waiting.opening.undecided = waiting.opening.undecided.filter((candidate) => candidate !== waiting);
  }

  refused(by: 'us' | 'peer', peer: string | null, reason: string): void {
    this.events.push({ kind: 'refused', by, peer, reason });
  }

  /** The driver trusts the session's peer: from now on it is used. */
  establish(session: Session, now: Millis): void {
    const { claim, number, initiator } = session.terms;
    const peer = this.peer(nameOf(claim));
    session.state = 'established';
    const hasRestarted = peer.add(session);
    const restarted = peer.speaks(session.terms.agreed.compactHeader) || hasRestarted;
    this.established.add(session);
    this.#makeRoomFor(session);
    const { mode, psk } = this.network;
    session.unreported = { kind: 'established', session: number, peer: peer.name, claim, mode, restarted };
    // XX3 is what the pre-shared key goes into: who has sent XX2 need not have it.
    const isProved = !initiator || psk === undefined || session.unconfirmed?.third === undefined;
    if (isProved || session.heard) this.report(session);
    if (peer.opening !== undefined) this.cancel(peer.opening);
    this.postpone(peer, undefined);
    this.releaseHeld(peer, now);
    for (const payload of session.held) this.arrived(peer, session, payload, now);
    session.held = [];
    session.heldBytes = 0;
    this.retireReplaced(peer, now);
    this.saving.save(session, now);
    // It may have moved since its first message: whatever is sent now should find it.
    this.sending.challenge(session, now);
    this.sending.flush(peer, now);
  }

  /** A record of data has come on a session that is established. */
  arrived(peer: Peer, session: Session, payload: Payload, now: Millis): void {
    peer.unheard = undefined;
    // The peer is there after all, on this session.
    if (peer.held !== undefined) {
      this.releaseHeld(peer, now);
      this.sending.flush(peer, now);
    }
    for (const message of this.messages.open(peer, session, payload, now))
      this.events.push({ kind: 'payload', peer: peer.name, ...message });
  }

  /** Tells the driver of a session whose peer has proved everything. */
  report(session: Session): void {
    if (session.unreported !== undefined) this.events.push(session.unreported);
    session.unreported = undefined;
  }

  /**
   * Forgets the oldest session of that peer where it has one too many, so that nobody displaces others by sessions that he
   * does not use; else the one of the same kind of peers that has been silent for longest, where these are too many.
   */
  #makeRoomFor(newest: Session): void {
    const { kind } = newest.terms.claim;
    const own = this.peer(nameOf(newest.terms.claim)).sessions;
    const oldest = own.find((session) => session !== newest);
    if (own.length > this.limits.sessionsPerPeer && oldest !== undefined) this.forget(oldest);
    const rivals = [...this.established].filter(({ terms }) => terms.claim.kind === kind);
    if (rivals.length <= (kind === 'device' ? this.limits.deviceSessions : this.limits.sessions)) return;
    let quietest: Session | undefined;
    for (const session of rivals) {
      if (session === newest) continue;
      if (quietest === undefined || session.lastHeardAt < quietest.lastHeardAt) quietest = session;
    }
    assert(quietest !== undefined, 'the limits of sessions are at least one');
    this.forget(quietest);
  }

  /** The old sessions go once a record has shown that the peer uses the new one. */
  retireReplaced(peer: Peer, now: Millis): void {
    const best = peer.best(this.identity.noisePublic);
    if (!best?.heard) return;
    for (const session of peer.sessions) {
      if (session !== best && session.retireAt === undefined) this.retire(session, now);
    }
  }

  /** From now on the session only understands what is late. */
  retire(session: Session, now: Millis): void {
    session.retireAt = now + this.limits.lingerMs;
    this.retired.add(session);
    this.stopConfirming(session);
  }

  stopConfirming(session: Session): void {
    if (session.unconfirmed) this.unconfirmed.delete(session.unconfirmed.id);
    session.unconfirmed = undefined;
  }

  forget(session: Session): void {
    this.stopConfirming(session);
    this.saving.discard(session);
    this.resumed.delete(session.terms.number);
    this.connections.delete(session.terms.local, session);
    this.undecided.delete(session.terms.number);
    this.established.delete(session);
    this.retired.delete(session);
    this.peers.find(nameOf(session.terms.claim))?.remove(session);
  }
}

const claimOf = (waiting: Candidate | Session | EarlyRequest): IdentityClaim =>
  waiting.kind === 'session' ? waiting.terms.claim : waiting.claim;
