import { generate } from 'selfsigned';

/** A certificate authority that is thrown away with the run it was made for. All PEM. */
export interface ThrowawayAuthority {
  readonly certificate: string;
  /** A server certificate for a DNS name. */
  issue(name: string): Promise<{ readonly cert: string; readonly key: string }>;
}

export async function throwawayAuthority(): Promise<ThrowawayAuthority> {
  const ca = await generate([{ name: 'commonName', value: 'Throwaway authority' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  return {
    certificate: ca.cert,
    async issue(name) {
      const issued = await generate([{ name: 'commonName', value: name }], {
        keyType: 'ec',
        algorithm: 'sha256',
        ca: { key: ca.private, cert: ca.cert },
        extensions: [
          { name: 'basicConstraints', cA: false, critical: true },
          { name: 'keyUsage', digitalSignature: true, critical: true },
          { name: 'extKeyUsage', serverAuth: true },
          { name: 'subjectAltName', altNames: [{ type: 2, value: name }] },
        ],
      });
      return { cert: issued.cert, key: issued.private };
    },
  };
}
