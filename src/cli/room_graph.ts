import type { EventId } from '../matrix/ids.ts';
import type { EventStatus } from '../storage/events.ts';
import type { GraphEvent } from '../storage/room_overview.ts';

/** Pixels of the SVG. */
const ROW = 22;
const LANE = 16;
const MARGIN = 16;
const TEXT_WIDTH = 640;

const COLOURS: Readonly<Record<EventStatus, string>> = {
  timeline: '#2f6f4f',
  outlier: '#999999',
  withheld: '#8a6d1d',
  soft_failed: '#c77700',
  rejected: '#b00020',
};

/** How an event is named in a picture. */
function labelOf({ id, type, stateKey, sender, depth, status }: GraphEvent): string {
  const place = stateKey === null || stateKey === '' ? type : `${type} ${stateKey}`;
  const verdict = status === 'timeline' ? '' : ` [${status.replace('_', '-')}]`;
  return `${depth} ${id.slice(0, 9)} ${place} ${sender}${verdict}`;
}

/** A string of DOT. */
const quoted = (text: string): string => JSON.stringify(text).replaceAll('\\u', '\\\\u');

/** The graph in Graphviz's language: an arrow goes from an event to each before it. */
export function dotOf(events: readonly GraphEvent[]): string {
  const lines = ['digraph room {', '  rankdir=BT;', '  node [shape=box, fontname="monospace", fontsize=10];'];
  const known = new Set(events.map(({ id }) => id));
  for (const event of events) {
    const style = event.isExtremity ? ', penwidth=3' : '';
    lines.push(
      `  ${quoted(event.id)} [label=${quoted(labelOf(event))}, color="${COLOURS[event.status]}"${style}];`,
    );
    for (const prev of event.prev) {
      lines.push(`  ${quoted(event.id)} -> ${quoted(prev)}${known.has(prev) ? '' : ' [style=dashed]'};`);
    }
  }
  return `${[...lines, '}'].join('\n')}\n`;
}

const escaped = (text: string): string =>
  text
    // Control characters have no place in XML.
    .replaceAll(/\p{Cc}/gu, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('"', '&quot;');

interface Placed {
  readonly event: GraphEvent;
  readonly x: number;
  readonly y: number;
}

/** Gives every event a row, the first on top, and a lane, so that no lane holds two branches at once. */
function placed(events: readonly GraphEvent[]): Map<EventId, Placed> {
  const places = new Map<EventId, Placed>();
  // Which event each lane leads down to.
  const lanes: (EventId | undefined)[] = [];
  for (const [row, event] of events.entries()) {
    const waiting = lanes.indexOf(event.id);
    const free = waiting >= 0 ? waiting : lanes.indexOf(undefined);
    const lane = free >= 0 ? free : lanes.length;
    for (const [at, target] of lanes.entries()) if (target === event.id) lanes[at] = undefined;
    places.set(event.id, { event, x: MARGIN + lane * LANE, y: MARGIN + row * ROW });
    lanes[lane] = event.prev[0];
    for (const prev of event.prev.slice(1)) {
      if (lanes.includes(prev)) continue;
      const empty = lanes.indexOf(undefined);
      lanes[empty >= 0 ? empty : lanes.length] = prev;
    }
  }
  return places;
}

/** The graph as a picture: the events given first on top, the lines go down to those before them. */
export function svgOf(events: readonly GraphEvent[]): string {
  const places = placed(events);
  const right = Math.max(MARGIN, ...[...places.values()].map(({ x }) => x)) + LANE;
  const height = events.length * ROW + 2 * MARGIN;
  const lines: string[] = [];
  const nodes: string[] = [];
  for (const { event, x, y } of places.values()) {
    for (const prev of event.prev) {
      const end = places.get(prev);
      const to = end === undefined ? `${x},${height}` : `${end.x},${end.y}`;
      const dashes = end === undefined ? ' stroke-dasharray="3"' : '';
      lines.push(`<polyline points="${x},${y} ${to}"${dashes}/>`);
    }
    const ring = event.isExtremity ? ' stroke="#000" stroke-width="2"' : '';
    nodes.push(`<circle cx="${x}" cy="${y}" r="5" fill="${COLOURS[event.status]}"${ring}/>`);
    nodes.push(`<text x="${right}" y="${y + 4}">${escaped(labelOf(event))}</text>`);
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${right + TEXT_WIDTH}" height="${height}" font-family="monospace" font-size="11">
<g fill="none" stroke="#888">
${lines.join('\n')}
</g>
${nodes.join('\n')}
</svg>
`;
}
