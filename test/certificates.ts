import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { generate } from 'selfsigned';

/** A certificate authority of a test's own, made anew for each run. All PEM. */
export interface TestAuthority {
  readonly certificate: string;
  /** A server certificate for a DNS name. */
  issue(name: string): Promise<{ readonly certificate: string; readonly key: string }>;
}

export async function testAuthority(): Promise<TestAuthority> {
  const ca = await generate([{ name: 'commonName', value: 'Ravine test authority' }], {
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
      return { certificate: issued.cert, key: issued.private };
    },
  };
}

/** A port on 127.0.0.1 that was free a moment ago, for configurations that must name it before it is bound. */
export function freePort(protocol: 'tcp' | 'udp'): Promise<number> {
  return new Promise((resolve, reject) => {
    if (protocol === 'udp') {
      const socket = createSocket('udp4').on('error', reject);
      socket.bind(0, '127.0.0.1', () => {
        const { port } = socket.address();
        socket.close(() => resolve(port));
      });
      return;
    }
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
