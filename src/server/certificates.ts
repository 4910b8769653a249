import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import type { Cancel, Clock, Millis } from '../base/time.ts';
import type { HttpDoor, TlsMaterial } from '../doors/https.ts';
import { ConfigError, type HttpListener } from './config.ts';

/** How often it is looked whether the files have changed; whoever is in a hurry says so by SIGHUP. */
const LOOK_INTERVAL_MS: Millis = 60_000;

type Files = NonNullable<HttpListener['tls']>;

/** A door that speaks TLS, and what it presents. */
interface Guarded {
  readonly door: Pick<HttpDoor, 'reload'>;
  readonly files: Files;
  presented: TlsMaterial;
  /** What was wrong with the files when they were looked at last, so that it is said once. */
  problem: string | undefined;
}

export interface CertificatesOptions {
  readonly clock: Clock;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

/**
 * The certificates of the doors that speak TLS. When their files change, new connections get the new ones and those that
 * there are go on; files that cannot be used change nothing.
 */
export class Certificates {
  readonly #clock: Clock;
  readonly #log: CertificatesOptions['log'];
  readonly #guarded: Guarded[] = [];
  #cancel: Cancel | undefined;

  constructor({ clock, log }: CertificatesOptions) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Goes on looking after the files of a door that presents `presented` from them. */
  guard(door: Pick<HttpDoor, 'reload'>, files: Files, presented: TlsMaterial): void {
    this.#guarded.push({ door, files, presented, problem: undefined });
    this.#cancel ??= this.#clock.after(LOOK_INTERVAL_MS, () => this.#look());
  }

  /** Reads all files now. @throws ConfigError where some of them cannot be used; the others are */
  reload(): void {
    for (const guarded of this.#guarded) this.#refresh(guarded);
    const problems = this.#guarded.flatMap(({ problem }) => problem ?? []);
    if (problems.length > 0) throw new ConfigError(problems.join('; '));
  }

  close(): void {
    this.#cancel?.();
  }

  #look(): void {
    for (const guarded of this.#guarded) {
      const before = guarded.problem;
      this.#refresh(guarded);
      const { files, problem } = guarded;
      if (problem !== undefined && problem !== before)
        this.#log.warn({ ...files, problem }, 'the new certificate cannot be used: the old one stays');
    }
    this.#cancel = this.#clock.after(LOOK_INTERVAL_MS, () => this.#look());
  }

  #refresh(guarded: Guarded): void {
    const { door, files, presented } = guarded;
    try {
      const found = readTls(files);
      guarded.problem = undefined;
      if (found.cert === presented.cert && found.key === presented.key) return;
      door.reload(found);
      guarded.presented = found;
      const { validTo } = new X509Certificate(found.cert);
      this.#log.info({ certificate: files.certificate, validTo }, 'a new certificate is in use');
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      guarded.problem = error instanceof ConfigError ? problem : `${files.certificate}: ${problem}`;
    }
  }
}

/** What is in the files. @throws ConfigError where one cannot be read, or the key is not that of the first certificate */
export function readTls({ certificate, key }: Files): TlsMaterial {
  const material = { cert: readPem(certificate), key: readPem(key) };
  const first = parsed(certificate, () => new X509Certificate(material.cert));
  const secret = parsed(key, () => createPrivateKey(material.key));
  if (!first.checkPrivateKey(secret)) throw new ConfigError(`${key} is not the key of ${certificate}`);
  return material;
}

function parsed<T>(file: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new ConfigError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The text of a file in PEM. @throws ConfigError */
export const readPem = (file: string): string => parsed(file, () => readFileSync(file, 'utf8'));
