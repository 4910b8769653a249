import { fromBase64 } from '../base/bytes.ts';
import { type NetworkConfig, PSK_BYTES } from '../pipe/network.ts';
import { type Config, ConfigError } from './config.ts';

/**
 * What a configuration says of the pipes.
 * @throws ConfigError, which does not repeat the key
 */
export function pipeNetwork({ mode, psk, station }: Omit<Config['coap']['pipe'], 'devices'>): NetworkConfig {
  if (mode === 'authenticated-only' && station === null)
    throw new ConfigError('coap.pipe.station: authenticated-only needs one');
  const key = psk === null ? undefined : fromBase64(psk);
  if (psk !== null && key?.length !== PSK_BYTES)
    throw new ConfigError('coap.pipe.psk: not 32 bytes in base64');
  return { mode, ...(key && { psk: key }), ...(station !== null && { station }) };
}
