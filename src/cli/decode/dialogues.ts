import type { MessageHandles } from '../../compact/context.ts';
import type { HandleKind } from '../../compact/forms.ts';
import type { Target } from '../../compact/target.ts';
import { PeerCoders } from '../../exchange/coders.ts';
import type { LearningModel } from '../../exchange/learnt.ts';
import { deviceKeyOf } from '../../pipe/identity.ts';
import { ENDINGS } from '../../pipe/message_header.ts';
import type { ConnectionId } from '../../pipe/record.ts';
import type { Reading } from './content_parts.ts';

// Ours.
/** More names than these are not kept; what comes later is shown by its number. */
const MAX_NAMES = 65_536;
/** Requests of a way that an answer may be to. */
const MAX_REQUESTS = 256;
const MAX_WAYS = 1_024;

/** By whom a record was sealed for whom: server names, or names of devices. */
export interface Ends {
  readonly sender: string;
  readonly receiver: string;
}

/** Where a datagram was going, where that is known. */
export interface Direction {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}

/** What the messages of one way have left behind for those that come later. */
class Way {
  readonly names = new Map<string, string>();
  readonly requests = new Map<number, Target>();
  /** Whether a message has had a header that can only be a compact one. */
  isCompact = false;
  /** In the order in which they were seen. */
  readonly sessions = new Map<ConnectionId, number>();
}

const isDevice = (name: string): boolean => deviceKeyOf(name) !== undefined;

/** What both ends know of each other in the course of a capture, as far as it began before its datagrams did. */
export class Dialogues {
  readonly #ways = new Map<string, Way>();
  readonly #coders: PeerCoders;

  constructor(models: readonly LearningModel[]) {
    this.#coders = new PeerCoders(models);
  }

  /**
   * @param connection under which the receiver is addressed; undefined in a handshake
   * @param ends undefined where nobody has said
   */
  of(direction: Direction, connection?: ConnectionId, ends?: Ends): Dialogue {
    const [from, to] = ends === undefined ? [direction.from, direction.to] : [ends.sender, ends.receiver];
    const name = `${from} ${to}`;
    const way = this.#way(name);
    const session = connection === undefined ? way.sessions.size : sessionOf(way, connection);
    const servers = [ends?.sender, ends?.receiver].filter((end) => end !== undefined && !isDevice(end));
    const spoken = { name, session, servers: servers as string[] };
    return new Dialogue(way, this.#way(`${to} ${from}`), this.#coders, spoken);
  }

  #way(name: string): Way {
    const way = this.#ways.get(name) ?? new Way();
    if (this.#ways.size < MAX_WAYS) this.#ways.set(name, way);
    return way;
  }
}

function sessionOf({ sessions }: Way, connection: ConnectionId): number {
  const session = sessions.get(connection) ?? sessions.size;
  sessions.set(connection, session);
  return session;
}

/** Where a message is, and who speaks. */
interface Spoken {
  readonly name: string;
  /** In the order in which they were seen. */
  readonly session: number;
  /** The names of those ends that are servers, the sender first. */
  readonly servers: readonly string[];
}

/** What a message of one way is read with. */
export class Dialogue {
  readonly #own: Way;
  readonly #asker: Way;
  readonly #coders: PeerCoders;
  readonly #spoken: Spoken;

  /** @param asker the other way: that of what an answer answers */
  constructor(own: Way, asker: Way, coders: PeerCoders, spoken: Spoken) {
    this.#own = own;
    this.#asker = asker;
    this.#coders = coders;
    this.#spoken = spoken;
  }

  /** Whether either end has had a header that can only be a compact one. */
  get isCompact(): boolean {
    return this.#own.isCompact || this.#asker.isCompact;
  }

  set isCompact(is: boolean) {
    this.#own.isCompact = is;
  }

  /** @param number what the request is named by */
  request(number: number): Reading {
    const { name, session, servers } = this.#spoken;
    const { coders, understood } = this.#coders.reading(name, { generation: session, number });
    return {
      context: { servers, handles: handlesOf(this.#own, this.#own) },
      coders,
      understood: (target) => {
        understood();
        const { requests } = this.#own;
        requests.delete(number);
        requests.set(number, target);
        for (const oldest of requests.keys()) if (requests.size > MAX_REQUESTS) requests.delete(oldest);
      },
    };
  }

  /** @param to what it answers, where it says so */
  answer(to: { readonly number: number } | { readonly ending: number } | undefined): Reading {
    const { requests } = this.#asker;
    const request =
      to === undefined
        ? undefined
        : 'number' in to
          ? requests.get(to.number)
          : [...requests].findLast(([number]) => number % ENDINGS === to.ending)?.[1];
    return {
      // Whoever has asked is named first, and the names are those of its message.
      context: { servers: [...this.#spoken.servers].reverse(), handles: handlesOf(this.#own, this.#asker) },
      coders: this.#coders.ofAnswers,
      ...(request && { request }),
      understood: () => undefined,
    };
  }
}

/** @param asked whose names are referred to */
function handlesOf(own: Way, asked: Way): MessageHandles {
  return {
    write: () => undefined,
    // What was introduced before the capture began is shown by its number.
    read: (kind, slot) => asked.names.get(nameOf(kind, slot)) ?? `<${kind} ${slot}>`,
    introduce: (kind, slot, text) => {
      const name = nameOf(kind, slot);
      if (own.names.size < MAX_NAMES || own.names.has(name)) own.names.set(name, text);
      return true;
    },
  };
}

const nameOf = (kind: HandleKind, slot: number): string => `${kind} ${slot}`;
