import { expect, it } from 'vitest';
import { Trace } from '../../../src/cli/coap/trace.ts';
import { encode } from '../../../src/coap/message.ts';

const GET = encode({
  type: 'CON',
  code: 1,
  id: 1,
  token: Uint8Array.of(1),
  options: [],
  payload: new Uint8Array(0),
});

it('tells somebody who waits at a terminal how often was asked, and takes that away', () => {
  let written = '';
  const trace = new Trace({
    write: (text) => {
      written += text;
    },
    verbose: false,
    hex: false,
    progress: true,
  });
  trace.observe({ direction: 'sent', peer: 'there', at: 0, bytes: GET, label: 'CON GET' });
  expect(written).toBe('');
  trace.observe({ direction: 'sent', peer: 'there', at: 2500, bytes: GET, label: 'CON GET copy 2' });
  expect(written).toBe('\r\x1b[Kno answer yet, copy 2 sent');
  trace.clear();
  expect(written.endsWith('\r\x1b[K')).toBe(true);
});
