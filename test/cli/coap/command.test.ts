import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { fromHex, utf8 } from '../../../src/base/bytes.ts';
import { systemRandom } from '../../../src/base/random.ts';
import { systemClock } from '../../../src/base/time.ts';
import type { CoapRequest, CoapResponse } from '../../../src/coap/api.ts';
import { METHOD } from '../../../src/coap/codes.ts';
import { encodeLinks, filterLinks, parseLinks } from '../../../src/coap/link_format.ts';
import { OPTION, stringOf, stringOption, uintOption } from '../../../src/coap/options.ts';
import { CoapSocket, type RequestContext } from '../../../src/exchange/coap_socket.ts';
import { ObservedResource } from '../../../src/exchange/observed_resource.ts';
import { openUdpLink } from '../../../src/link/udp.ts';
import { outputOf } from '../../e2e/output.ts';
import { freePort } from '../../free_port.ts';

/* The command as a user runs it, against CoAP over UDP on this machine. */

const bin = resolve(import.meta.dirname, '../../../bin/ravine.js');
const TOKEN = 'syt_very_secret_token';

interface Ended {
  readonly code: number | null;
  readonly out: Buffer;
  readonly text: string;
  readonly errors: string;
}

const children: ChildProcess[] = [];

function start(args: readonly string[], input?: Buffer): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [bin, 'coap', ...args], {
    stdio: 'pipe',
    env: { ...process.env, RAVINE_TOKEN: TOKEN },
  });
  children.push(child);
  const out: Buffer[] = [];
  const errors: Buffer[] = [];
  // Text where somebody else listens as well.
  child.stdout.on('data', (part: Buffer | string) => out.push(Buffer.from(part as string)));
  child.stderr.on('data', (part: Buffer | string) => errors.push(Buffer.from(part as string)));
  child.stdin.end(input);
  const ended = new Promise<Ended>((done) => {
    child.once('close', (code) => {
      const whole = Buffer.concat(out);
      done({ code, out: whole, text: whole.toString(), errors: Buffer.concat(errors).toString() });
    });
  });
  return { child, ended };
}

const run = (...args: string[]): Promise<Ended> => start(args).ended;

const answer = (code: number, payload: Uint8Array | string = '', format?: number): CoapResponse => ({
  code,
  options: format === undefined ? [] : [uintOption(OPTION.contentFormat, format)],
  payload: typeof payload === 'string' ? utf8(payload) : payload,
});

const CONTENT = 0x45;
const CHANGED = 0x44;
const LINKS = '</obs>;rt="counter";obs,</text>;ct="0 50";title="some text",</large>;sz=100000';

/** What the command meets: every answer says what was asked. */
class Server {
  socket!: CoapSocket;
  base = '';
  received: CoapRequest[] = [];
  readonly counter = new ObservedResource(answer(CONTENT, '0', 0));

  async open(): Promise<void> {
    const link = await openUdpLink({ host: '127.0.0.1', port: 0 });
    this.base = `coap://${link.address}`;
    this.socket = new CoapSocket({
      link,
      clock: systemClock,
      random: systemRandom,
      understood: [OPTION.ifNoneMatch],
    });
    this.socket.onRequest((request, context) => this.#answer(request, context));
  }

  async #answer(request: CoapRequest, _: RequestContext): Promise<CoapResponse | ObservedResource> {
    this.received.push(request);
    const texts = (number: number): string[] =>
      request.options.filter((option) => option.number === number).map((option) => stringOf(option)!);
    if (request.code === METHOD.put) return answer(CHANGED);
    if (request.code === METHOD.delete) return answer(0x42);
    switch (texts(OPTION.uriPath).join('/')) {
      case 'obs':
        return this.counter;
      case 'json':
        return answer(CONTENT, '{"b":12345678901234567890,"a":[]}', 50);
      case 'cbor':
        return answer(CONTENT, fromHex('a2016161616b4401020304')!, 60);
      case 'binary':
        return answer(CONTENT, Uint8Array.of(0, 1, 2, 0xff), 42);
      case 'created':
        return {
          ...answer(0x41),
          options: [stringOption(OPTION.locationPath, 'new'), stringOption(OPTION.locationQuery, 'a=b c')],
        };
      case '.well-known/core': {
        const links = parseLinks(LINKS);
        const found = links.ok ? filterLinks(links.value, texts(OPTION.uriQuery)) : [];
        return answer(CONTENT, encodeLinks(found), 40);
      }
      case 'text':
        return answer(CONTENT, texts(OPTION.uriQuery).join('|'), 0);
      case 'wordy':
        return answer(0x84, 'no! '.repeat(10_000), 0);
      case 'large':
        return answer(CONTENT, new Uint8Array(100_000).fill(7), 42);
      default:
        return answer(0x84, 'there is\x1b no such thing', 0);
    }
  }

  /** The values of an option of the last request. */
  option(number: number): (string | undefined)[] {
    return this.received
      .at(-1)!
      .options.filter((option) => option.number === number)
      .map(stringOf);
  }
}

const server = new Server();
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ravine-coap-'));
  await server.open();
});

afterAll(async () => {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = new Promise((done) => child.once('exit', done));
    child.kill('SIGKILL');
    await ended;
  }
  await server.socket.close();
  rmSync(folder, { recursive: true, force: true });
});

describe.concurrent('ravine coap', () => {
  it('prints JSON indented with its numbers exact, CBOR as JSON or diagnostic notation, and text', async () => {
    const [json, raw, cbor, text] = await Promise.all([
      run(`${server.base}/json`),
      run('--no-pretty', 'get', `${server.base}/json`),
      run('--no-pretty', 'GET', `${server.base}/cbor`),
      run(`${server.base}/text?a=%26b&c`),
    ]);
    expect(json).toMatchObject({
      code: 0,
      errors: '',
      text: '{\n  "b": 12345678901234567890,\n  "a": []\n}\n',
    });
    expect(raw.text).toBe('{"b":12345678901234567890,"a":[]}\n');
    expect(cbor.text).toBe('{1:"a","k":h\'01020304\'}\n');
    expect(text.text).toBe('a=&b|c\n');
  });

  it('gives binary to a pipe or a file, as it is', async () => {
    const file = join(folder, 'out.bin');
    const [piped, written] = await Promise.all([
      run(`${server.base}/binary`),
      run('--output', file, `${server.base}/large`),
    ]);
    expect([...piped.out]).toEqual([0, 1, 2, 0xff]);
    expect(written).toMatchObject({ code: 0, text: '' });
    expect(readFileSync(file).equals(Buffer.alloc(100_000, 7))).toBe(true);
  });

  it('fails with 1 and the meaning where the server answers with an error', async () => {
    const { code, text, errors } = await run(`${server.base}/nothing`);
    expect({ code, text }).toEqual({ code: 1, text: '' });
    expect(errors).toBe('ravine coap: 4.04 Not Found: there is\\u001b no such thing\n');
  });

  it('prints the beginning of an error that says very much', async () => {
    const { code, errors } = await run(`${server.base}/wordy`);
    expect({ code, long: errors.length > 5_000 }).toEqual({ code: 1, long: false });
    expect(errors).toMatch(/^ravine coap: 4\.04 Not Found: no! no! .* … and so on, 40000 characters\n$/);
  });

  it('fails with 3 where there is no answer', async () => {
    const port = await freePort('udp');
    const [silent, nameless] = await Promise.all([
      run('--timeout', '1', `coap://127.0.0.1:${port}/`),
      run('coap://no-such-name.invalid/'),
    ]);
    expect(silent.code).toBe(3);
    expect(silent.errors).toBe(
      `ravine coap: There is no answer: 127.0.0.1:${port} did not answer in time.\n`,
    );
    expect(nameless).toMatchObject({
      code: 3,
      errors: 'ravine coap: The name no-such-name.invalid has no address.\n',
    });
  });

  it('fails at once where no WebSocket can be opened', async () => {
    const port = await freePort('tcp');
    expect(await run(`coap+ws://127.0.0.1:${port}/x`)).toMatchObject({
      code: 3,
      errors: `ravine coap: No WebSocket for CoAP can be opened at ws://127.0.0.1:${port}/.well-known/coap.\n`,
    });
  });

  it('fails with 2 and a sentence where the command is wrong', async () => {
    const wrong: [string[], string][] = [
      [['http://a/'], 'is not a URI for CoAP'],
      [['head', 'coap://a/'], 'head is not a method'],
      [['--payload', 'a', '--json', '1', 'coap://a/'], 'one body'],
      [['--observe', 'post', 'coap://a/'], 'Only get and fetch'],
      [['--block-size', '100', 'coap://a/'], '16, 32, 64'],
      [['ravine://a/'], '--trust-any'],
      [['--nonsense', 'coap://a/'], 'unknown option'],
      [['-O', 'If-Match,0x1', 'coap://a/'], 'hexadecimal digits, two for each byte'],
      [['get'], 'Say where to: ravine coap get coap://host/path'],
    ];
    const ended = await Promise.all(wrong.map(([args]) => run(...args)));
    for (const [i, { code, errors }] of ended.entries()) {
      expect(errors).toContain(wrong[i]![1]);
      expect(code).toBe(2);
    }
  });

  it('lists what a server has as a table, whole or filtered', async () => {
    const [whole, filtered] = await Promise.all([
      run('discover', server.base),
      run('discover', `${server.base}/.well-known/core?rt=count*`),
    ]);
    expect(whole.text).toBe(
      [
        'path    type     formats                                     bytes   observable  title',
        '/obs    counter                                                      yes',
        '/text            text/plain; charset=utf-8 application/json                      some text',
        '/large                                                       100000',
        '',
      ].join('\n'),
    );
    expect(filtered.text).toBe('path  type     observable\n/obs  counter  yes\n');
  });

  it('asks whether a server is there', async () => {
    const { code, text } = await run('ping', server.base);
    expect(code).toBe(0);
    expect(text).toMatch(/^coap:\/\/127\.0\.0\.1:\d+ is there: \d+ ms\n$/);
  });

  it('says where what it has created is', async () => {
    const { code, errors } = await run('post', `${server.base}/created`);
    expect({ code, errors }).toEqual({ code: 0, errors: '* 2.01 Created, at /new?a%3Db%20c\n' });
  });

  it('prints each change of what it observes, and tells the server at the end', async () => {
    const { child, ended } = start(['--observe', '--count', '6', `${server.base}/obs`]);
    const output = outputOf(child);
    await output.until(/0\n/);
    // The observer of a test before this one may be on its way out yet.
    await vi.waitFor(() => expect(server.counter.observers).toBe(1), 20_000);
    for (let i = 1; i <= 5; i++) {
      server.counter.change(answer(CONTENT, String(i), 0), { confirmable: true });
      await output.until(new RegExp(`${i}\\n`));
    }
    expect(await ended).toMatchObject({ code: 0, text: '0\n1\n2\n3\n4\n5\n', errors: '' });
    expect(server.counter.observers).toBe(0);
  });

  it('ends an observation when it is interrupted', async () => {
    const { child, ended } = start(['-v', '--observe', `${server.base}/obs`]);
    await outputOf(child).until(/2\.05 Content/);
    child.kill('SIGINT');
    const { code, errors } = await ended;
    expect(code).toBe(0);
    expect(errors).toMatch(/> .*CON GET.*Observe 1/);
  });
});

describe('what ravine coap sends', () => {
  it('is a file of 100 KB in blocks of the wanted size', async () => {
    const file = join(folder, 'in.bin');
    const content = Buffer.from(new Uint8Array(100_000).map((_, i) => i % 251));
    writeFileSync(file, content);
    const before = server.socket.counters.blocksIn;
    const { code, errors } = await run('put', `${server.base}/large`, '--file', file, '--block-size', '512');
    expect({ code, errors }).toEqual({ code: 0, errors: '' });
    expect(Buffer.from(server.received.at(-1)!.payload).equals(content)).toBe(true);
    expect(server.socket.counters.blocksIn - before).toBe(Math.ceil(100_000 / 512));
  });

  it('is the standard input, options and formats', async () => {
    const args = [
      'put',
      `${server.base}/x/y?z`,
      '--file',
      '-',
      '--content-format',
      'cbor',
      '--accept',
      'json',
    ];
    const more = ['-O', 'If-None-Match', '-O', '2048,0xcafe', '-O', 'ETag,0x01'];
    await start([...args, ...more], Buffer.from('piped')).ended;
    const request = server.received.at(-1)!;
    expect(Buffer.from(request.payload).toString()).toBe('piped');
    expect(request.options).toEqual([
      { number: OPTION.eTag, value: Uint8Array.of(1) },
      { number: OPTION.ifNoneMatch, value: new Uint8Array(0) },
      stringOption(OPTION.uriPath, 'x'),
      stringOption(OPTION.uriPath, 'y'),
      uintOption(OPTION.contentFormat, 60),
      stringOption(OPTION.uriQuery, 'z'),
      uintOption(OPTION.accept, 50),
      { number: 2048, value: Uint8Array.of(0xca, 0xfe) },
    ]);
  });

  it('is JSON as text, and as CBOR where that is asked for or the path is a Matrix one', async () => {
    const sent = async (...args: string[]): Promise<unknown[]> => {
      await run('put', ...args, '--json', '{"a": 1}');
      const { payload } = server.received.at(-1)!;
      return [server.option(OPTION.contentFormat)[0], Buffer.from(payload).toString('hex')];
    };
    const text = ['2', Buffer.from('{"a": 1}').toString('hex')];
    const cbor = ['<', 'a1616101'];
    expect(await sent(`${server.base}/x`)).toEqual(text);
    expect(await sent(`${server.base}/x`, '--cbor')).toEqual(cbor);
    expect(await sent(`${server.base}/_matrix/x`)).toEqual(cbor);
    expect(await sent(`${server.base}/_matrix/x`, '--no-cbor')).toEqual(text);
  });

  it('is a token only where one is asked for, and never shown', async () => {
    await run('delete', `${server.base}/x`);
    expect(server.option(256)).toEqual([]);
    const { errors } = await run('--hex', '--token', 'env', 'delete', `${server.base}/x`);
    expect(server.option(256)).toEqual([TOKEN]);
    expect(errors).toContain('not shown');
    expect(errors.replaceAll(/\n.*? {2}.*? {2}/g, '')).not.toContain('secret');
    const file = join(folder, 'token');
    writeFileSync(file, 'of_a_file\n');
    await run('--token', `@${file}`, 'delete', `${server.base}/x`);
    expect(server.option(256)).toEqual(['of_a_file']);
  });
});

describe('ravine coap and ravine serve', () => {
  it('talk CoAP, through a pipe of checked or unchecked identity, and over WebSocket', async () => {
    const config = join(folder, 'ravine.yaml');
    writeFileSync(
      config,
      'server_name: here.test\nhttp: { listen: [{ host: 127.0.0.1, port: 0 }] }\ncoap: { port: 0, plain: trusted }\nfederation: { trust: tofu }\n',
    );
    const serving = spawn(process.execPath, [bin, 'serve', '--config', config], { stdio: 'pipe' });
    children.push(serving);
    const output = outputOf(serving);
    const fingerprint = await output.until(/to pin: ([0-9a-f]{64})/);
    const udp = /UDP (127\.0\.0\.1:\d+)/.exec(output.text())![1]!;
    const http = /http:\/\/(127\.0\.0\.1:\d+)/.exec(output.text())![1]!;
    const identity = join(folder, 'identity.json');
    const pipe = `ravine://here.test@${udp}/_matrix/federation/v1/version`;
    const [core, checked, kept, refused] = await Promise.all([
      run('discover', `coap://${udp}`),
      run('--fingerprint', fingerprint, pipe),
      run('-v', '--trust-any', '--identity', identity, pipe),
      run('--fingerprint', '0'.repeat(64), pipe),
    ]);
    expect(core.text).toContain('/_matrix/client/versions');
    for (const { code, text } of [checked, kept]) {
      expect(JSON.parse(text)).toMatchObject({ server: { name: 'Ravine' } });
      expect(code).toBe(0);
    }
    const { server_name: asking } = JSON.parse(readFileSync(identity, 'utf8')) as { server_name: string };
    expect(kept.errors).toMatch(new RegExp(`who asks is ${asking}, fingerprint [0-9a-f]{64}\\n`));
    expect(kept.errors).toContain(`here.test has the fingerprint ${fingerprint}, which was not checked`);
    expect(statSync(identity).mode & 0o077).toBe(0);
    expect(refused).toMatchObject({ code: 3, text: '' });
    expect(refused.errors).toContain(`its fingerprint is ${fingerprint}, not the expected one`);
    expect(existsSync(identity)).toBe(true);
    const [again, misnamed, socket] = await Promise.all([
      run('--fingerprint', fingerprint, '--identity', identity, pipe),
      run('--trust-any', `ravine://other.test@${udp}/_matrix/federation/v1/version`),
      run('--no-pretty', `coap+ws://${http}/_matrix/client/versions`),
    ]);
    expect(again.code).toBe(0);
    expect(misnamed.code).toBe(3);
    expect(misnamed.errors).toContain('The pipe was refused: the answer is not signed in that name.');
    expect(socket).toMatchObject({ code: 0, errors: '' });
    expect(socket.text).toContain('"v1.1"');
  });
});
