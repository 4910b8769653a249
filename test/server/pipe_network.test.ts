import { describe, expect, it } from 'vitest';
import { base64 } from '../../src/base/bytes.ts';
import { ConfigError } from '../../src/server/config.ts';
import { pipeNetwork } from '../../src/server/pipe_network.ts';

describe('the configuration of pipes', () => {
  const psk = new Uint8Array(32).fill(9);

  it('is a mode, a key with or without padding, and a station', () => {
    expect(pipeNetwork({ mode: 'encrypted', psk: null, station: null })).toEqual({ mode: 'encrypted' });
    for (const text of [base64(psk), `${base64(psk)}=`])
      expect(pipeNetwork({ mode: 'encrypted', psk: text, station: null })).toEqual({
        mode: 'encrypted',
        psk,
      });
    const readable = { mode: 'authenticated-only', psk: null, station: 'DL1ABC' } as const;
    expect(pipeNetwork(readable)).toEqual({ mode: 'authenticated-only', station: 'DL1ABC' });
  });

  it('needs a station where nothing is encrypted, and no secret is in an error', () => {
    expect(() => pipeNetwork({ mode: 'authenticated-only', psk: null, station: null })).toThrow(ConfigError);
    const wrong = base64(psk.subarray(1));
    try {
      pipeNetwork({ mode: 'encrypted', psk: wrong, station: null });
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      expect(String(error)).not.toContain(wrong.slice(0, 8));
    }
  });
});
