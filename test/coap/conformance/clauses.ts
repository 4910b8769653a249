/**
 * Every clause with MUST, MUST NOT or SHALL of RFC 7252 (sections 3 to 5), RFC 7641 and RFC 7959, in our own words, and
 * the file that tests it or the reason for which it does not apply here.
 */
export interface Clause {
  readonly id: string;
  readonly rfc: number;
  readonly section: string;
  readonly gist: string;
  readonly testedIn: string | null;
  readonly notApplicable: string | null;
}

/** Name within its RFC and section, section, gist. */
type Row = readonly [name: string, section: string, gist: string];

const rows = (
  rfc: number,
  where: Pick<Clause, 'testedIn' | 'notApplicable'>,
  list: readonly Row[],
): readonly Clause[] =>
  list.map(([name, section, gist]) => ({ id: `${rfc}/${section}/${name}`, rfc, section, gist, ...where }));

const tested = (testedIn: string, rfc: number, list: readonly Row[]): readonly Clause[] =>
  rows(rfc, { testedIn, notApplicable: null }, list);

const excluded = (notApplicable: string, rfc: number, list: readonly Row[]): readonly Clause[] =>
  rows(rfc, { testedIn: null, notApplicable }, list);

export const MESSAGES = 'rfc7252_messages.test.ts';
export const REQUESTS = 'rfc7252_requests.test.ts';
export const OBSERVE = 'rfc7641.test.ts';
export const BLOCKS = 'rfc7959.test.ts';

const APPLICATION = 'decided by the application behind the endpoint, which only carries it';
const NO_CACHE = 'no cache: a response is used for its own request only';
const NO_PROXY = 'no proxy: Proxy-Uri and Proxy-Scheme are answered 5.05';

export const CLAUSES: readonly Clause[] = [
  ...tested(MESSAGES, 7252, [
    ['version-sent', '3', 'every message that is sent has version 1'],
    ['version-received', '3', 'a message of another version is ignored without a word'],
    ['token-length', '3', 'a reserved token length is never sent, and received it is a format error'],
    ['empty-payload', '3', 'a payload marker with nothing behind it is a format error'],
    ['option-order', '3.1', 'options are sent by number, each as its difference from the one before'],
    ['delta-15', '3.1', 'an option delta of 15 that is not the payload marker is a format error'],
    ['length-15', '3.1', 'an option length of 15 is a format error'],
    ['leading-zeros', '3.2', 'an unsigned integer may have leading zero bytes'],
    ['empty-sent', '4.1', 'an empty message is four bytes: no token, nothing behind the id'],
    ['empty-received', '4.1', 'an empty message with more than four bytes is a format error'],
    ['con-answered', '4.2', 'a confirmable message is acknowledged, or rejected by a reset'],
    ['ack-id', '4.2', 'an acknowledgement repeats the id of what it acknowledges'],
    ['ack-content', '4.2', 'an acknowledgement carries a response or is empty'],
    ['rst-id', '4.2', 'a reset repeats the id of what it rejects'],
    ['rst-empty', '4.2', 'a reset is empty'],
    ['ack-rst-unanswered', '4.2', 'an acknowledgement or a reset is never answered by another'],
    [
      'timer-and-counter',
      '4.2',
      'a confirmable message has a timer, which doubles, and a count of its copies',
    ],
    ['transmit-span', '4.2', 'no copy leaves after MAX_TRANSMIT_SPAN, not even where the timers ran late'],
    ['ack-state', '4.2', 'a copy of a request is acknowledged even when its separate answer is through'],
    ['non-not-empty', '4.3', 'an empty message is never sent as non-confirmable'],
    ['non-not-acknowledged', '4.3', 'a non-confirmable message is not acknowledged'],
    ['non-rejected', '4.3', 'a non-confirmable message that makes no sense is rejected'],
    ['non-silently', '4.3', 'rejecting a non-confirmable message has no effect beyond a reset'],
    ['id-echoed', '4.4', 'acknowledgements and resets repeat the id of confirmable and other messages alike'],
    ['id-reuse', '4.4', 'no id is used again towards one endpoint within EXCHANGE_LIFETIME'],
    [
      'reply-matching',
      '4.4',
      'a reply counts only with the id, and from the endpoint, of what it replies to',
    ],
    ['nstart', '4.7', 'no more than NSTART interactions with a server are outstanding'],
    ['probing-rate', '4.7', 'a peer that never answers is not sent more than PROBING_RATE on average'],
    ['ack-timeout', '4.8.1', 'ACK_TIMEOUT is not shortened and NSTART not raised on paths nobody knows'],
    ['random-factor', '4.8.1', 'ACK_RANDOM_FACTOR is not below 1'],
  ]),
  ...excluded(
    'both ends get their parameters from their own operator, or agree on them inside a pipe',
    7252,
    [['adjusted', '4.8.1', 'longer derived times are known to all that they concern']],
  ),
  ...tested(REQUESTS, 7252, [
    ['either', '5.2.1', 'a client takes its response piggybacked or separate'],
    ['no-second-ack', '5.2.2', 'after an empty acknowledgement no acknowledgement carries the response'],
    [
      'separately',
      '5.2.2',
      'after an empty acknowledgement the response goes separately, copies of the request or not',
    ],
    ['client-ack-empty', '5.2.2', 'the acknowledgement of a separate response is empty'],
    ['stops', '5.2.2', 'any acknowledgement, whatever it carries, or a reset ends the copies of a response'],
    ['non-response', '5.2.3', 'a client takes a non-confirmable response to a confirmable request'],
    ['con-response', '5.2.3', 'a client takes a confirmable response to a non-confirmable request'],
    ['token-echoed', '5.3.1', 'every response has the token of its request, unchanged'],
    ['token-opaque', '5.3.1', "a peer's token is compared byte by byte and means nothing"],
    ['same-source', '5.3.2', 'a response counts only from the endpoint that was asked'],
    ['piggybacked-match', '5.3.2', 'a piggybacked response needs both the id and the token of its request'],
    ['separate-match', '5.3.2', 'a separate response needs the token alone'],
    ['undefined-option', '5.4', 'an option that is not defined for a message is treated as unknown'],
    ['elective', '5.4.1', 'an unknown elective option is ignored'],
    ['critical-request', '5.4.1', 'an unknown critical option in a confirmable request is answered 4.02'],
    ['critical-response', '5.4.1', 'a response with an unknown critical option is rejected'],
    ['critical-non', '5.4.1', 'a non-confirmable message with an unknown critical option is rejected'],
    ['length', '5.4.3', 'an option of a length out of range is treated as unknown'],
    ['default', '5.4.4', 'an option that is not there has its default value: Max-Age 60'],
    ['once-sent', '5.4.5', 'no option that is not repeatable is sent twice'],
    ['once-received', '5.4.5', 'the second of an option that is not repeatable is treated as unknown'],
    ['diagnostic', '5.5.2', 'the diagnostic payload of an error is UTF-8'],
    ['not-supported', '5.7.2', 'a request to a proxy is answered 5.05'],
    ['method', '5.8', 'an unknown method is answered 4.05, piggybacked'],
    ['dots', '5.10.1', 'no Uri-Path is "." or ".."'],
    ['proxy-uri', '5.10.2', 'Proxy-Uri is answered 5.05'],
    ['proxy-uri-first', '5.10.2', 'Proxy-Uri counts for more than the Uri options beside it'],
    ['etag-opaque', '5.10.6', 'an entity-tag is compared byte by byte and means nothing'],
    ['etag-once', '5.10.6.1', 'a response has at most one entity-tag'],
    [
      'reserved-location',
      '5.10.7',
      'reserved Location options beside those that are known are an unsupported option',
    ],
    ['condition', '5.10.8', 'a method is not performed where nobody looks at its condition'],
  ]),
  ...excluded(APPLICATION, 7252, [
    ['safe', '5.1', 'GET only retrieves'],
    ['idempotent', '5.1', 'GET, PUT and DELETE are idempotent'],
    ['payload', '5.5', 'a method or a code that has no payload is sent without one, and one is ignored'],
    ['valid-etag', '5.9.1.3', '2.03 has an entity-tag'],
    ['valid-payload', '5.9.1.3', '2.03 has no payload'],
    ['not-acceptable', '5.10.4', 'a format that is not to be had is answered 4.06'],
    ['location-dots', '5.10.7', 'no Location-Path is "." or ".."'],
    ['precondition-failed', '5.10.8', 'a condition that is not fulfilled is answered 4.12'],
  ]),
  ...excluded(NO_CACHE, 7252, [
    ['unknown-success', '5.6', 'an unknown success is not cached'],
    ['stored', '5.6', 'a stored response is used for matching requests only, and while it is fresh'],
    ['max-age-zero', '5.6.1', 'what must not be cached says Max-Age 0'],
    ['created', '5.9.1.1', '2.01 makes what is stored of the created resource stale'],
    ['deleted', '5.9.1.2', '2.02 makes what is stored of the deleted resource stale'],
    ['valid', '5.9.1.3', '2.03 renews the Max-Age of the stored response'],
    ['valid-options', '5.9.1.3', '2.03 replaces options of the stored response'],
    ['changed', '5.9.1.4', '2.04 makes what is stored of the changed resource stale'],
    ['location', '5.10.7', 'a location makes what is stored of it stale'],
  ]),
  ...excluded(NO_PROXY, 7252, [
    ['gateway-timeout', '5.7.1', 'a destination that does not answer leads to 5.04'],
    ['bad-gateway', '5.7.1', 'a response that makes no sense leads to 5.02'],
    ['aged', '5.7.1', 'Max-Age is not extended by the time in a cache'],
    ['all-processed', '5.7.1', 'a proxy acts on every option'],
    ['unsafe-request', '5.7.1', 'an unknown unsafe option in a request leads to 4.02'],
    ['safe-request', '5.7.1', 'unknown safe options of a request are forwarded'],
    ['unsafe-response', '5.7.1', 'an unknown unsafe option in a response leads to 5.02'],
    ['safe-response', '5.7.1', 'unknown safe options of a response are forwarded'],
    ['itself', '5.7.2', 'a proxy request that names the proxy itself is local'],
    ['translated', '5.7.2', 'a forwarded request is translated into the options of its destination'],
    ['own-names', '5.10.2', 'a proxy knows its own names'],
    ['not-both', '5.10.2', 'Proxy-Uri and Uri options do not go together'],
  ]),
  ...tested(BLOCKS, 7959, [
    ['processed', '2.1', 'a Block option is acted on, or its message is rejected'],
    ['once', '2.1', 'neither Block option comes twice in one message'],
    ['size-7-sent', '2.2', 'the reserved block size is never sent'],
    ['size-7-received', '2.2', 'the reserved block size in a request is answered 4.00'],
    ['more-sent', '2.2', 'a Block2 option in a request has M zero'],
    ['more-received', '2.2', 'M of a Block2 option in a request is ignored'],
    ['full', '2.3', 'a block with M set is exactly as large as its option says'],
    ['content-format', '2.3', 'every message with a block has the Content-Format of the whole body'],
    ['mismatched', '2.3', 'blocks of a request that differ in their Content-Format are not put together'],
    ['down', '2.3', 'a client moves down to the block size of the response'],
    ['no-larger', '2.4', 'a server uses the block size that is asked for, or a smaller one'],
    ['actual-size', '2.4', 'a client goes on with the block size that the server used, late negotiation too'],
    ['same-size', '2.4', 'a server uses one block size throughout'],
    ['etag', '2.4', 'a client compares entity-tags when it puts blocks together'],
    ['incomplete', '2.5', 'a final block without all those before it is answered 4.08'],
    ['etag-observed', '2.6', 'a client compares entity-tags when it fetches the rest of a notification'],
    ['sequential', '2.7', 'the answer to a request in blocks is fetched block after block'],
    ['size2-zero', '4', 'Size2 in a request is zero'],
    ['size2-ignored', '4', 'a client manages without an answer to its question for the size'],
    ['size-once', '4', 'neither Size option comes twice in one message'],
  ]),
  ...tested(OBSERVE, 7641, [
    ['once', '3.1', 'a client registers once for one resource'],
    ['target', '3.1', 'what one resource is for that is told by the options of the cache-key'],
    ['renewal', '3.3.1', 'a client registers again with the options, and the token, of the first time'],
    ['freshest', '3.4', 'the notification that was sent last counts, in whatever order they arrive'],
    ['unknown-token', '3.5', 'a confirmable notification with an unknown token is not acknowledged'],
    ['acknowledged', '3.5', 'a confirmable notification of an observation is acknowledged, also a late one'],
    ['deregistration', '3.6', 'a client deregisters with the options, and the token, of its registration'],
    ['updated', '4.1', 'an observer is sent every state that lasts, as long as it is one'],
    ['not-added', '4.1', 'a second registration with one token makes no second observer'],
    ['replaced', '4.1', 'a second registration with one token takes the place of the first'],
    ['unwilling', '4.1', 'where a client is not made an observer the response has no Observe option'],
    ['deregistered', '4.1', 'Observe 1 removes the observer with that token and no other'],
    ['deregistered-response', '4.1', 'the response to Observe 1 has no Observe option'],
    ['token', '4.2', 'every notification has the token of the registration'],
    ['error-removes', '4.2', 'a notification that is an error is the last'],
    ['not-acceptable-removes', '4.2', 'a notification 4.06 is the last'],
    ['success-numbered', '4.2', 'every notification of class 2 has an Observe option'],
    ['error-unnumbered', '4.2', 'no notification of another class has one'],
    ['in-sync', '4.3.1', 'a new state is sent at once where nothing is under way'],
    ['max-age', '4.3.1', 'the age that a state may reach goes with each notification'],
    ['sequence', '4.4', 'the Observe option holds 24 bits of a number that always increases'],
    ['sequence-rate', '4.4', 'the number increases by less than 2^23 in 256 seconds'],
    ['sequence-renewal', '4.4', 'the number goes on increasing when a client registers again'],
    [
      'number-current',
      '4.4',
      'a notification that had to wait has the number of the moment at which it is sent',
    ],
    ['number-of-copy', '4.4', 'a notification that is sent again has the number of that moment'],
    ['daily', '4.5', 'at least every 24 hours a notification is confirmable'],
    ['reset', '4.5', 'a client that rejects a notification is no observer any more'],
    ['given-up', '4.5', 'a client that does not acknowledge the last copy is no observer any more'],
    ['nstart', '4.5.1', 'no more than NSTART notifications to one client are outstanding'],
    ['obs-value', '6', 'a value of the attribute "obs" is ignored'],
    ['obs-once', '6', 'the attribute "obs" counts once'],
    ['unconfirmed', '7', 'without an acknowledgement a client is sent only so many notifications'],
    ['interspersed', '7', 'there are confirmable notifications between the others'],
  ]),
  ...excluded(APPLICATION, 7641, [
    ['aggregated', '3.1', 'observations of one resource are shared'],
    ['format', '4.2', 'every notification has the Content-Format of the first response'],
    ['age', '4.3.1', 'the server says up to which age a state is usable'],
    [
      'stored',
      '4.3.2',
      'a client is taken to have nothing but what its newest registration has named by entity-tags',
    ],
  ]),
  ...excluded(NO_CACHE, 7641, [
    ['option-removed', '2', 'a stored notification answers a request without its Observe option'],
  ]),
  ...excluded(NO_PROXY, 7641, [
    ['hops', '5', 'each hop decides for itself how many notifications it sends, and of which type'],
    ['own-numbers', '5', 'each hop numbers its notifications itself'],
    ['own-age', '5', 'each hop says how old its own representation may get'],
    ['fan-out', '5', 'an intermediary registers once for all of its clients'],
    ['loops', '7', 'notifications do not go round between intermediaries'],
  ]),
];

/** What one test file has to test: gives each of its tests its name, and knows which are missing. */
export class Checklist {
  readonly #file: string;
  readonly #named = new Set<string>();

  constructor(file: string) {
    this.#file = file;
  }

  /** The name of the one test of a clause. */
  name(id: string): string {
    const clause = CLAUSES.find((one) => one.id === id);
    if (clause?.testedIn !== this.#file) throw new Error(`${id} is no clause of ${this.#file}`);
    if (this.#named.has(id)) throw new Error(`${id} has a test already`);
    this.#named.add(id);
    return `${clause.section}: ${clause.gist}`;
  }

  /** Clauses of this file that no test is named after. */
  get missing(): string[] {
    return CLAUSES.filter(({ id, testedIn }) => testedIn === this.#file && !this.#named.has(id)).map(
      ({ id }) => id,
    );
  }
}
