import { expect, test } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import { FederationRemoteMedia } from '../../src/federation/remote_media.ts';
import { type FederationCall, FederationError } from '../../src/federation/transport.ts';
import { type Web, WebError } from '../../src/homeserver/media/ports.ts';
import type { ServerName } from '../../src/matrix/ids.ts';

const NAME = { server: 'away.example' as ServerName, mediaId: 'AbC_-1' };

async function* once(text: string): AsyncIterable<Uint8Array> {
  yield utf8(text);
}

function remoteOf(second: string, web?: Web) {
  const calls: FederationCall[] = [];
  const transport = {
    async download(_: ServerName, call: FederationCall) {
      calls.push(call);
      const body = `--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\n${second}\r\n--b--`;
      return { contentType: 'multipart/mixed; boundary=b', content: once(body) };
    },
  };
  return { calls, remote: new FederationRemoteMedia({ transport, web }) };
}

async function textOf(content: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part);
  return Buffer.concat(parts).toString();
}

/** @param known what is where */
const webOf = (known: Record<string, string>, asked: string[] = []): Web => ({
  async fetch(url) {
    asked.push(url);
    const found = known[url];
    if (found === undefined) throw new WebError('it is not at a public address');
    return {
      ...{ status: found === '' ? 403 : 200, url, contentType: 'image/png' },
      disposition: 'attachment; filename="from the cdn.png"',
      content: once(found),
    };
  },
});

test('a file is asked for with the lowest priority, and time for what is to come', async () => {
  const { remote, calls } = remoteOf(
    `Content-Type: text/plain\r\nContent-Disposition: inline; filename*=utf-8''%C3%BC.txt\r\n\r\nHello?`,
  );
  const file = await remote.download(NAME, { uploadTimeoutMs: 700 });
  expect([file.contentType, file.fileName]).toEqual(['text/plain', 'ü.txt']);
  expect(await textOf(file.content)).toBe('Hello?');
  const key = { width: 96, height: 96, method: 'crop', animated: false } as const;
  await remote.thumbnail(NAME, key, { uploadTimeoutMs: 700 });
  expect(calls.map(({ path, query, priority }) => [path, query, priority])).toEqual([
    ['/_matrix/federation/v1/media/download/AbC_-1', 'timeout_ms=700', 5],
    [
      '/_matrix/federation/v1/media/thumbnail/AbC_-1',
      'width=96&height=96&method=crop&animated=false&timeout_ms=700',
      5,
    ],
  ]);
});

test('a file that is elsewhere is fetched there, over https only, and never inside', async () => {
  const asked: string[] = [];
  const web = webOf({ 'https://cdn.example/x': 'From afar', 'https://cdn.example/no': '' }, asked);
  const download = (location: string) =>
    remoteOf(`Location: ${location}\r\n\r\n`, web).remote.download(NAME, { uploadTimeoutMs: 1 });
  const file = await download('https://cdn.example/x');
  expect([file.contentType, file.fileName]).toEqual(['image/png', 'from the cdn.png']);
  expect(await textOf(file.content)).toBe('From afar');
  const refused = { status: 502, errcode: 'M_UNKNOWN' };
  await expect(download('https://cdn.example/no')).rejects.toMatchObject(refused);
  await expect(download('https://inside.example/')).rejects.toMatchObject(refused);
  await expect(download('http://cdn.example/x')).rejects.toMatchObject(refused);
  await expect(download('file:///etc/passwd')).rejects.toMatchObject(refused);
  expect(asked).toEqual(['https://cdn.example/x', 'https://cdn.example/no', 'https://inside.example/']);
});

test('what breaks off in the middle is a failure, too', async () => {
  const transport = {
    async download() {
      async function* content(): AsyncIterable<Uint8Array> {
        yield utf8('--b\r\n\r\n{}\r\n--b\r\n\r\nHel');
        throw new FederationError('timeout', 'away.example did not answer in time');
      }
      return { contentType: 'multipart/mixed; boundary=b', content: content() };
    },
  };
  const file = await new FederationRemoteMedia({ transport }).download(NAME, { uploadTimeoutMs: 1 });
  await expect(textOf(file.content)).rejects.toMatchObject({ status: 504, errcode: 'M_UNKNOWN' });
});
