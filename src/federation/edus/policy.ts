import type { ServerName } from '../../matrix/ids.ts';

/** What servers are told besides events. */
export interface EphemeralConfig {
  /** Bits a second in the long run: a link that carries less is slow. */
  readonly slow_below: number;
  /** `fast`: over links that are not slow. */
  readonly typing: 'always' | 'fast' | 'never';
  readonly presence: 'always' | 'fast' | 'never';
  /** `idle`: over slow links when nothing else has to go. */
  readonly receipts: 'always' | 'idle' | 'fast' | 'never';
}

/** What one server is told. */
export interface EduPolicy {
  readonly typing: boolean;
  readonly presence: boolean;
  /** `soon`: with the next events, or by themselves after a short time. `idle`: by themselves, when no events have gone for a while. */
  readonly receipts: 'soon' | 'idle' | 'never';
  /** Whether changes of devices wait until no events have gone for a while. */
  readonly isSlow?: boolean;
}

/**
 * The policy of each server.
 * @param rateOf bits a second of the link to a server, null where that is not known: then it is taken to be fast
 */
export function eduPolicies(
  config: EphemeralConfig,
  rateOf: (destination: ServerName) => number | null,
): (destination: ServerName) => EduPolicy {
  const policy = (isSlow: boolean): EduPolicy => {
    const goes = (when: string): boolean => when === 'always' || (!isSlow && when !== 'never');
    const isIdle = isSlow && config.receipts === 'idle';
    return {
      typing: goes(config.typing),
      presence: goes(config.presence),
      receipts: isIdle ? 'idle' : goes(config.receipts) ? 'soon' : 'never',
      isSlow,
    };
  };
  const [fast, slow] = [policy(false), policy(true)];
  return (destination) => ((rateOf(destination) ?? config.slow_below) < config.slow_below ? slow : fast);
}
