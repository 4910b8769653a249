import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { outputOf } from './output.ts';

/* The command as an operator runs it: a process of its own, real files, real signals. */

const bin = resolve(import.meta.dirname, '../../bin/ravine.js');

let folder: string;
const processes: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ravine-process-'));
});

afterEach(async () => {
  for (const child of processes.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((done) => child.once('exit', done));
      child.kill('SIGKILL');
      await ended;
    }
  }
  rmSync(folder, { recursive: true, force: true });
});

interface Served {
  readonly child: ChildProcess;
  readonly url: string;
  readonly output: () => string;
  end(signal: NodeJS.Signals): Promise<number | null>;
}

function configuration(extra = ''): string {
  const file = join(folder, 'ravine.yaml');
  writeFileSync(
    file,
    `server_name: here.test\nhttp: { listen: [{ host: 127.0.0.1, port: 0 }] }\ncoap: { port: 0 }\nlog: { level: trace }\nregistration: token\n${extra}`,
  );
  return file;
}

/** Starts `ravine serve` and waits until it says where it serves. */
async function serve(config: string): Promise<Served> {
  const child = spawn(process.execPath, [bin, 'serve', '--config', config], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  processes.push(child);
  const log = outputOf(child);
  const url = await log.until(/^ {2}(http:\/\/127\.0\.0\.1:\d+)$/m);
  await log.until(/fingerprint, for others to pin: [0-9a-f]{64}/);
  return {
    child,
    url,
    output: log.text,
    end(signal) {
      const ended = new Promise<number | null>((done) => child.once('exit', done));
      child.kill(signal);
      return ended;
    },
  };
}

/** Runs a command to its end. */
function run(...args: string[]): Promise<{ readonly code: number; readonly output: string }> {
  return new Promise((done) => {
    execFile(process.execPath, [bin, ...args], (error, stdout, stderr) => {
      done({ code: error === null ? 0 : Number(error.code), output: stdout + stderr });
    });
  });
}

async function call(
  url: string,
  method: string,
  path: string,
  token?: string,
  body?: object,
): Promise<{ status: number; json: Record<string, unknown> }> {
  const response = await fetch(url + path, {
    method,
    headers: {
      'content-type': 'application/json',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, json: (await response.json()) as Record<string, unknown> };
}

async function register(url: string, registrationToken: string): Promise<string> {
  const account = { username: 'alice', password: 'correct horse battery staple' };
  const { json: flows } = await call(url, 'POST', '/_matrix/client/v3/register', undefined, account);
  const auth = { type: 'm.login.registration_token', token: registrationToken, session: flows.session };
  const { status, json } = await call(url, 'POST', '/_matrix/client/v3/register', undefined, {
    ...account,
    auth,
  });
  expect(status).toBe(200);
  return String(json.access_token);
}

describe('ravine serve', () => {
  it('prints a registration token at the first start and never again, and stops on SIGTERM', async () => {
    const config = configuration();
    const first = await serve(config);
    const token = /printed once: (\S+)/.exec(first.output())?.[1];
    expect(token).toBeDefined();
    await register(first.url, token!);
    expect(await first.end('SIGTERM')).toBe(0);
    const second = await serve(config);
    expect(second.output()).not.toContain('Registration token');
    expect(await second.end('SIGINT')).toBe(0);
  });

  it('has what it has acknowledged after it was killed, and never logged a secret', async () => {
    const config = configuration();
    const first = await serve(config);
    const registrationToken = /printed once: (\S+)/.exec(first.output())![1]!;
    const token = await register(first.url, registrationToken);
    const { json } = await call(first.url, 'POST', '/_matrix/client/v3/createRoom', token, {
      preset: 'private_chat',
    });
    const room = encodeURIComponent(String(json.room_id));
    const acknowledged: unknown[] = [];
    const killed = first.child;
    for (let i = 0; i < 200; i++) {
      // The last ones race with the end of the process: they may fail, but what was answered must be there.
      if (i === 150) killed.kill('SIGKILL');
      const path = `/_matrix/client/v3/rooms/${room}/send/m.room.message/t${i}`;
      const sent = await call(first.url, 'PUT', path, token, { msgtype: 'm.text', body: `${i}` }).catch(
        () => undefined,
      );
      if (sent?.status === 200) acknowledged.push(sent.json.event_id);
    }
    expect(acknowledged.length).toBeGreaterThanOrEqual(150);
    expect(acknowledged.length).toBeLessThan(200);

    const second = await serve(config);
    const messages = await call(
      second.url,
      'GET',
      `/_matrix/client/v3/rooms/${room}/messages?dir=b&limit=300`,
      token,
    );
    const ids = (messages.json.chunk as { event_id: string; type: string }[])
      .filter(({ type }) => type === 'm.room.message')
      .map(({ event_id }) => event_id);
    expect(ids.reverse().slice(0, acknowledged.length)).toEqual(acknowledged);
    await second.end('SIGTERM');
    const logs = first.output().replace(/printed once: \S+/, '') + second.output();
    expect(logs).toContain('/createRoom');
    for (const secret of [token, registrationToken, 'correct horse']) expect(logs).not.toContain(secret);
  });

  it('keeps its database to its owner', async () => {
    const server = await serve(configuration());
    await server.end('SIGTERM');

    expect(statSync(join(folder, 'data')).mode & 0o077).toBe(0);
    expect(statSync(join(folder, 'data/ravine.db')).mode & 0o077).toBe(0);
  });

  it('says what is wrong with a configuration, and where', async () => {
    const wrong = await run('serve', '--config', configuration('coap_port: 1\n'));
    expect(wrong.code).toBe(1);
    expect(wrong.output).toMatch(/^ravine: .*ravine\.yaml:.*there is no such key/m);
    const missing = await run('serve', '--config', join(folder, 'nowhere.yaml'));
    expect(missing).toMatchObject({ code: 1, output: expect.stringContaining('nowhere.yaml') });
    const renamed = configuration();
    await (await serve(renamed)).end('SIGTERM');
    writeFileSync(renamed, readFileSync(renamed, 'utf8').replace('here.test', 'there.test'));
    expect(await run('serve', '--config', renamed)).toMatchObject({
      code: 1,
      output: expect.stringContaining('the data belongs to the server here.test'),
    });
  });

  it('says which address is taken', async () => {
    const other = createServer();
    await new Promise<void>((done) => other.listen(0, '127.0.0.1', done));
    const { port } = other.address() as AddressInfo;
    const config = configuration();
    writeFileSync(config, readFileSync(config, 'utf8').replace('port: 0 }]', `port: ${port} }]`));
    const { code, output } = await run('serve', '--config', config);
    expect(code).toBe(1);
    expect(output).toContain(`127.0.0.1:${port}`);
    await new Promise((done) => other.close(done));
    // The start that failed must not have used up the token.
    writeFileSync(config, readFileSync(config, 'utf8').replace(`port: ${port} }]`, 'port: 0 }]'));
    expect((await serve(config)).output()).toContain('Registration token');
  });
});

describe('ravine --help', () => {
  it('lists the commands, and each has examples', async () => {
    const { code, output } = await run('--help');
    expect(code).toBe(0);
    const commands = [...output.matchAll(/^ {2}(\w+) \[options\]/gm)].map(([, name]) => name!);
    expect(commands).toEqual(['serve', 'demo', 'link', 'doctor', 'backup', 'coap', 'decode']);
    for (const command of commands)
      expect((await run(command, '--help')).output).toMatch(/Examples:\n {2}ravine /);
  });

  it('refuses what is not a command or an option', async () => {
    expect((await run('sevre')).code).not.toBe(0);
    expect((await run('demo', '--rate', 'fast')).output).toContain('whole number');
    expect((await run('demo', '--loss', '1')).output).toContain('less than 1');
  });
});
