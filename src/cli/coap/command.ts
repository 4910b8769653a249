import { writeFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { fromUtf8 } from '../../base/bytes.ts';
import { type Millis, sleep, systemClock } from '../../base/time.ts';
import type { CoapRequest, CoapResponse } from '../../coap/api.ts';
import { BLOCK_SIZES, type BlockSize } from '../../coap/block.ts';
import { EMPTY, isSafe, isSuccess } from '../../coap/codes.ts';
import { LINK_FORMAT, parseLinks } from '../../coap/link_format.ts';
import { type Option as CoapOption, firstUint, OPTION, stringOf } from '../../coap/options.ts';
import { ExchangeError } from '../../exchange/exchange_error.ts';
import { integer } from '../arguments.ts';
import { collectOption, contentFormat, methodCode } from './options.ts';
import { codeText, forTerminal, linkTable, renderPayload } from './render.ts';
import { DISCOVER, PING, type RequestInput, requestOf } from './request.ts';
import { Trace } from './trace.ts';
import { type CoapUri, parseCoapUri } from './uri.ts';
import { openWay, UnreachableError, UsageError, type Way, type WayOptions } from './way.ts';

interface Options extends RequestInput, Omit<WayOptions, 'observer' | 'note'> {
  readonly output?: string;
  readonly observe?: true;
  readonly count?: number;
  readonly for?: number;
  readonly non?: true;
  readonly timeout?: number;
  readonly verbose?: true;
  readonly hex?: true;
  readonly pretty: boolean;
}

const EXIT = { success: 0, errorResponse: 1, usage: 2, unreachable: 3 } as const;

/** MAX_TRANSMIT_WAIT of RFC 7252, section 4.8.2, rounded up; on links of known rate the time of many messages. */
const TIMEOUT_S = 95;
const SLOW_TIMEOUT_S = 900;
/** Characters of an error's text that are printed. */
const LONGEST_DIAGNOSTIC = 4096;
/** How long an acknowledgement of the end of an observation is waited for. */
const FAREWELL_MS: Millis = 2_000;

const EXAMPLES = `
A method is get, post, put, delete, fetch, patch or ipatch; without one it is get. "discover" lists what a server has,
"ping" asks whether there is one.

Where to:
  coap://host[:port]/path?query           CoAP over UDP; the port is 5683 where it is left out
  coap+ws://host[:port]/path?query        over WebSocket (coaps+ws: with TLS)
  ravine://server.name@host:port/path     through a pipe, encrypted, to a Ravine server of that name

Through a pipe both sides have to trust each other. A server whose federation.trust is "verified", the default, takes no
pipe from here unless the identity of --identity is among its peers, pinned; -v prints its name and fingerprint.

A token: "env" takes it from the environment variable RAVINE_TOKEN, "@file" from a file; written out it is seen by
everybody who can list this machine's processes. It is sent only with this option, and never printed.

Exit status: 0 for an answer 2.xx, 1 for 4.xx and 5.xx (printed as an error), 2 where the command is wrong, 3 where
there is no answer.

Examples:
  ravine coap coap://localhost/_matrix/client/versions
  ravine coap discover coap://localhost
  ravine coap discover "coap://[::1]/.well-known/core?rt=matrix*"
  ravine coap ping coap://192.0.2.7
  ravine coap -v get coap://192.0.2.7/sensors/temperature
  ravine coap put coap://192.0.2.7/lamp --payload on --content-format text
  ravine coap put coap://192.0.2.7/firmware --file image.bin --content-format binary --block-size 256
  ravine coap get coap://192.0.2.7/picture --output picture.png
  ravine coap --observe --count 10 get coap://192.0.2.7/sensors/temperature
  ravine coap post coap://localhost/_matrix/client/v3/login \\
      --json '{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"..."}'
  RAVINE_TOKEN=... ravine coap --token env "coap://localhost/_matrix/client/v3/sync?timeout=30000"
  ravine coap --json '{"a":1}' --cbor --accept json post coap://192.0.2.7/convert
  ravine coap --hex -O If-None-Match -O 2048,0xcafe -O Max-Age,60 put coap://192.0.2.7/new --payload x
  ravine coap --rate 1200 --delay 300 get coap://192.0.2.9/status
  ravine coap --fingerprint 5f2e... get ravine://bravo.example@192.0.2.7:5683/_matrix/federation/v1/version`;

const seconds = integer(1, 1e6);

export function coapCommand(): Command {
  return new Command('coap')
    .description('Asks a CoAP server, as curl does with HTTP.')
    .argument('<method>', 'a method, "discover", "ping", or the URI right away')
    .argument('[uri]', 'what to ask for')
    .option('-p, --payload <text>', 'send this text')
    .option('--json <text>', 'send this JSON, as CBOR where the path is a Matrix one')
    .option('--cbor', 'send the JSON as CBOR')
    .option('--no-cbor', 'send the JSON as text')
    .option('-f, --file <file>', 'send the content of a file; "-" is the standard input')
    .option('-o, --output <file>', "write the answer's payload to a file, as it is")
    .addOption(
      new Option(
        '-O, --option <option,value>',
        'add an option, by number or name; value: text, 0x..., or a number',
      )
        .argParser(collectOption)
        .default([] as readonly CoapOption[], 'none'),
    )
    .option(
      '--accept <format>',
      'the format that is wanted: json, cbor, text, link, a media type, a number',
      contentFormat,
    )
    .option('--content-format <format>', 'the format of what is sent', contentFormat)
    .option('--token <token>', 'Matrix access token: env, @file, or the token')
    .option('--observe', 'stay and print each change (RFC 7641), until interrupted')
    .option('--count <number>', 'end an observation after so many answers', integer(1, 1e9))
    .option('--for <seconds>', 'end an observation after this time', seconds)
    .option('--block-size <bytes>', `of block-wise transfer: ${BLOCK_SIZES.join(', ')}`, blockSize)
    .option('--non', 'send non-confirmable: once, whether it arrives or not')
    .option(
      '--timeout <seconds>',
      `wait this long for an answer (${TIMEOUT_S}; ${SLOW_TIMEOUT_S} with --rate)`,
      seconds,
    )
    .option('--rate <bits>', 'bits a second of the link: timers for slow links', integer(10, 1e9))
    .option('--delay <ms>', 'one way, milliseconds; with --rate', integer(0, 600_000))
    .option('--fingerprint <hex>', "pipes: the fingerprint of the server's key")
    .option('--trust-any', 'pipes: trust whoever answers')
    .option(
      '--identity <file>',
      'pipes: who asks; the file is made where it is missing. Else somebody new each time',
    )
    .option('-v, --verbose', 'print each message that is sent (>) or received (<)')
    .option('--hex', 'with their bytes')
    .option('--no-pretty', 'do not indent JSON and CBOR')
    .addHelpText('after', EXAMPLES)
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? EXIT.success : EXIT.usage))
    .action(async (method: string, uri: string | undefined, options: Options) => {
      process.exitCode = await coap(uri === undefined ? 'get' : method, uri ?? method, options);
    });
}

function blockSize(text: string): BlockSize {
  const size = BLOCK_SIZES.find((one) => String(one) === text);
  if (size !== undefined) return size;
  throw new InvalidArgumentError(`It takes one of ${BLOCK_SIZES.join(', ')}.`);
}

const writeError = (text: string): boolean => process.stderr.write(text);

/** Runs the command. Returns its exit status. */
async function coap(method: string, target: string, options: Options): Promise<number> {
  const trace = new Trace({
    write: writeError,
    verbose: options.verbose ?? false,
    hex: options.hex ?? false,
    progress: process.stderr.isTTY,
  });
  let way: Way | undefined;
  try {
    if (isMethod(target)) throw new UsageError(`Say where to: ravine coap ${target} coap://host/path`);
    const uri = parseCoapUri(target);
    if (!uri.ok) throw new UsageError(uri.problem);
    const request = requestOf(method === PING ? 'get' : method, uri.value, options);
    checkOptions(uri.value, request, options);
    // A fingerprint that was not checked is told in any case.
    const note = options.trustAny ? (text: string) => writeError(`* ${text}\n`) : trace.note.bind(trace);
    way = await openWay(uri.value, { ...options, observer: trace.observe, note });
    if (method === PING) return await ping(way, target, options);
    const print = (response: CoapResponse): boolean =>
      printAnswer(response, method === DISCOVER, options, trace);
    if (options.observe) return await observe(way, request, print, options, trace);
    return exitOf(print(await way.request(request, details(options))));
  } catch (error) {
    trace.clear();
    writeError(`ravine coap: ${sentenceOf(error)}\n`);
    return statusOf(error);
  } finally {
    await way?.close();
  }
}

const isMethod = (text: string): boolean =>
  text === DISCOVER || text === PING || methodCode(text) !== undefined;

function checkOptions({ scheme }: CoapUri, { code }: CoapRequest, options: Options): void {
  const { observe, count, for: time, delay, rate, non, option, hex } = options;
  if (observe === undefined && (count ?? time) !== undefined)
    throw new UsageError('--count and --for say when an observation ends: they go with --observe.');
  if (observe && !isSafe(code)) throw new UsageError('Only get and fetch can observe.');
  if (delay !== undefined && rate === undefined) throw new UsageError('--delay goes with --rate.');
  if (scheme !== 'ravine') return;
  if (non || observe || option.length > 0)
    throw new UsageError('--option, --observe and --non are for plain CoAP: they do not go through a pipe.');
  if (hex) writeError('* what is in a pipe is encrypted, and so are these bytes\n');
}

const details = ({ timeout, rate, non }: Options) => ({
  timeoutMs: (timeout ?? (rate === undefined ? TIMEOUT_S : SLOW_TIMEOUT_S)) * 1000,
  confirmable: non === undefined,
});

const exitOf = (success: boolean): number => (success ? EXIT.success : EXIT.errorResponse);

async function ping(way: Way, target: string, options: Options): Promise<number> {
  if (way.ping === undefined) throw new UsageError('There is no ping through a pipe: get something instead.');
  const start = systemClock.monotonic();
  await way.ping(details(options));
  writeLine(`${target} is there: ${Math.round(systemClock.monotonic() - start)} ms`);
  return EXIT.success;
}

/** Prints the resource and each change of it, until something ends that. */
async function observe(
  way: Way,
  request: CoapRequest,
  print: (response: CoapResponse) => boolean,
  options: Options,
  trace: Trace,
): Promise<number> {
  if (way.observe === undefined) throw new UsageError('What this URI names cannot be observed.');
  const stop = new AbortController();
  let printed = 0;
  let success = true;
  const onNotification = (response: CoapResponse): void => {
    if (stop.signal.aborted) return;
    success = print(response);
    if (++printed === options.count) stop.abort();
  };
  const interrupt = (): void => stop.abort();
  process.once('SIGINT', interrupt);
  const cancelTimer =
    options.for === undefined ? () => undefined : systemClock.after(options.for * 1000, () => stop.abort());
  try {
    const ended = Promise.withResolvers<string>();
    const first = await way.observe(request, {
      ...details(options),
      onNotification,
      onEnd: (reason) => ended.resolve(reason),
      signal: stop.signal,
    });
    onNotification(first);
    if (!first.observing) {
      if (success) writeError('ravine coap: The server has answered, but does not tell of changes.\n');
      return exitOf(success);
    }
    const reason = await ended.promise;
    if (reason !== 'cancelled') throw new UnreachableError(`The observation has ended: ${reason}.`);
    trace.note('the observation is ended');
    // The message that tells the server so has to leave, and better to be acknowledged.
    await sleep(systemClock, FAREWELL_MS, trace.nextReceived);
    return exitOf(success);
  } catch (error) {
    if (stop.signal.aborted) return exitOf(success);
    if (!success) return EXIT.errorResponse;
    throw error;
  } finally {
    process.removeListener('SIGINT', interrupt);
    cancelTimer();
  }
}

/** Prints an answer where it belongs. Returns whether it is one of success. */
function printAnswer(response: CoapResponse, discover: boolean, options: Options, trace: Trace): boolean {
  trace.clear();
  const { code, payload } = response;
  const success = isSuccess(code) || code === EMPTY;
  const format = firstUint(response.options, OPTION.contentFormat);
  const body = renderPayload(payload, format, options.pretty);
  if (!success) {
    const said = payload.length === 0 ? '' : `: ${shortened(body.text)}`;
    writeError(`ravine coap: ${forTerminal(`${codeText(code)}${said}`)}\n`);
    return false;
  }
  const location = locationOf(response.options);
  if (location !== '') writeError(`* ${codeText(code)}, at ${forTerminal(location)}\n`);
  if (code === EMPTY) writeError('* sent; no answer was asked for\n');
  if (payload.length === 0) return true;
  if (options.output !== undefined) writeFileSync(options.output, payload);
  else if (discover && format === LINK_FORMAT) writeLine(tableOf(payload));
  else if (body.kind === 'text') writeLine(process.stdout.isTTY ? forTerminal(body.text) : body.text);
  else if (!process.stdout.isTTY) process.stdout.write(payload);
  else writeError(`ravine coap: The answer has ${body.text}: use --output, or a pipe.\n`);
  return true;
}

const shortened = (text: string): string =>
  text.length <= LONGEST_DIAGNOSTIC
    ? text
    : `${text.slice(0, LONGEST_DIAGNOSTIC)} … and so on, ${text.length} characters`;

const writeLine = (text: string): boolean => process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);

function tableOf(payload: Uint8Array): string {
  const links = parseLinks(fromUtf8(payload) ?? '\0');
  if (!links.ok) throw new UnreachableError(`The list of resources cannot be read: ${links.problem}.`);
  return links.value.length === 0 ? 'nothing' : linkTable(links.value);
}

/** Path and query of what was created (RFC 7252, section 5.10.7). */
function locationOf(options: readonly CoapOption[]): string {
  const texts = (number: number): string[] =>
    options
      .filter((option) => option.number === number)
      .map((option) => encodeURIComponent(stringOf(option) ?? '?'));
  const [path, query] = [texts(OPTION.locationPath), texts(OPTION.locationQuery)];
  return `${path.map((segment) => `/${segment}`).join('')}${query.length === 0 ? '' : `?${query.join('&')}`}`;
}

function sentenceOf(error: unknown): string {
  if (!(error instanceof ExchangeError)) return error instanceof Error ? error.message : String(error);
  const what = error.reason === 'refused' ? 'The pipe was refused' : 'There is no answer';
  return `${what}: ${error.message}.`;
}

function statusOf(error: unknown): number {
  const usage = error instanceof UsageError || (error instanceof ExchangeError && error.reason === 'invalid');
  return usage ? EXIT.usage : EXIT.unreachable;
}
