/** More segments than any path of ours has. */
const MAX_SEGMENTS = 32;

interface Node {
  readonly literals: Map<string, Node>;
  parameter: Node | undefined;
  /** A route ends here, or takes everything from here on. */
  end: boolean;
  rest: boolean;
}

const newNode = (): Node => ({ literals: new Map(), parameter: undefined, end: false, rest: false });

/** The paths of all routes, whatever their method: tells 405 from 404, which the router does not. */
export class KnownPaths {
  readonly #root = newNode();

  /** @param pattern a path as routes are registered, such as `/rooms/:room/state/*` */
  add(pattern: string): void {
    let node = this.#root;
    for (const segment of pattern.split('/')) {
      if (segment === '*') {
        node.rest = true;
        return;
      }
      if (segment.startsWith(':')) {
        node.parameter ??= newNode();
        node = node.parameter;
      } else {
        const next = node.literals.get(segment) ?? newNode();
        node.literals.set(segment, next);
        node = next;
      }
    }
    node.end = true;
  }

  /** Whether some route has this path. */
  has(path: string): boolean {
    const segments = path.split('/');
    if (segments.length > MAX_SEGMENTS) return false;
    let nodes = [this.#root];
    for (const segment of segments) {
      const next: Node[] = [];
      for (const node of nodes) {
        if (node.rest) return true;
        const literal = node.literals.get(segment);
        if (literal !== undefined) next.push(literal);
        if (node.parameter !== undefined && segment !== '') next.push(node.parameter);
      }
      nodes = next;
    }
    return nodes.some((node) => node.end);
  }
}
