import { textTable } from '../output.ts';
import {
  type Budget,
  type Bytes,
  isKept,
  type Row,
  ratiosOf,
  type Spread,
  type Step,
  type StepName,
  totalOf,
} from './scenario.ts';

const NONE = '-';

/** The lines of `ravine bench wire --json`; what is beyond the first seven members is for people who look closer. */
export const rowsJson = (rows: readonly Row[]) =>
  rows.map((row) => {
    const { id, name, bytes, budget, https, plain, steps, notYet, note, spread } = row;
    const ratios = ratiosOf(row);
    return {
      id,
      name,
      bytes: bytes ?? null,
      budget: budgetJson(budget),
      ok: isKept(row),
      baseline_https_json: https?.kept ?? null,
      ratio: ratios === undefined ? null : rounded(ratios.kept),
      baseline_https_json_per_connection: https?.perConnection ?? null,
      ratio_per_connection: ratios === undefined ? null : rounded(ratios.perConnection),
      plain_coap_cbor: plain ?? null,
      flate_only: steps?.find((step) => step.name === 'flate')?.bytes ?? null,
      layers: steps === undefined ? null : layersJson(steps),
      not_yet: notYet ?? null,
      note: note ?? null,
      texts: spread ?? null,
    };
  });

const budgetJson = ({ bytes, ratio, ratioPerConnection }: Budget) => ({
  ...bytes,
  ...(ratio !== undefined && { ratio }),
  ...(ratioPerConnection !== undefined && { ratio_per_connection: ratioPerConnection }),
});

/** In all with one layer more, and what that one has taken away. */
const layersJson = (steps: readonly Step[]) =>
  steps.map(({ name, bytes }, i) => ({
    name,
    bytes: totalOf(bytes),
    saved: i === 0 ? 0 : totalOf(steps[i - 1]!.bytes) - totalOf(bytes),
  }));

const rounded = (value: number): number => Math.round(value * 100) / 100;

const bytesText = (bytes: Bytes | undefined): string => {
  if (bytes === undefined) return NONE;
  return 'total' in bytes ? String(bytes.total) : `${bytes.request} / ${bytes.response}`;
};

function budgetText({ bytes, ratio, ratioPerConnection }: Budget): string {
  const parts = [
    ...(bytes === undefined ? [] : [bytesText(bytes)]),
    ...(ratio === undefined ? [] : [`ratio ${ratio}`]),
    ...(ratioPerConnection === undefined ? [] : [`and ${ratioPerConnection}`]),
  ];
  return parts.join(', ');
}

const ratioText = (ratio: number | undefined): string =>
  ratio === undefined ? '' : ` (${ratio.toFixed(1)})`;

/** The table, with what each layer saves below, and how it was counted. */
export function rowsText(rows: readonly Row[], texts: number): string {
  const heading = ['', 'SCENARIO', 'BYTES', 'BUDGET', '', 'HTTPS+JSON, KEPT', 'ONE CONNECTION EACH'];
  const table = rows.map((row) => {
    const { id, name, bytes, budget, https, notYet } = row;
    const ratios = ratiosOf(row);
    return [
      id,
      name,
      notYet === undefined ? bytesText(bytes) : 'not yet',
      budgetText(budget),
      isKept(row) ? 'ok' : 'NO',
      https === undefined ? NONE : `${https.kept}${ratioText(ratios?.kept)}`,
      https === undefined ? NONE : `${https.perConnection}${ratioText(ratios?.perConnection)}`,
    ];
  });
  const kept = rows.filter(isKept).length;
  return [
    textTable([heading, ...table]),
    `\n${kept} of ${rows.length} are in their budgets.`,
    ...remarks(rows),
    ...layers(rows),
    ...spreads(rows, texts),
    FOOTER,
  ].join('\n');
}

function remarks(rows: readonly Row[]): string[] {
  const said = rows.flatMap(({ id, note, notYet }) => {
    const remark = [notYet === undefined ? undefined : `not yet: ${notYet}`, note].filter(Boolean).join('; ');
    return remark === '' ? [] : [`  ${id}: ${remark}`];
  });
  return said.length === 0 ? [] : ['', ...said];
}

const STEP_HEADINGS: readonly (readonly [StepName, string])[] = [
  ['raw', 'CBOR IN A PIPE'],
  ['flate', 'DEFLATE'],
  ['models', 'MODELS'],
  ['handles', 'HANDLES'],
  ['forms', 'FORMS'],
];

/** Totals of both directions, from layer to layer, and what each takes away. */
function layers(rows: readonly Row[]): string[] {
  const measured = rows.filter(({ steps }) => steps !== undefined);
  if (measured.length === 0) return [];
  const heading = ['', 'HTTPS+JSON, KEPT', 'PLAIN COAP+CBOR', ...STEP_HEADINGS.map(([, text]) => text)];
  const table = measured.map(({ id, https, plain, steps = [] }) => {
    const totals = [
      https?.kept,
      plain && totalOf(plain),
      ...STEP_HEADINGS.map(([name]) => {
        const step = steps.find((one) => one.name === name);
        return step && totalOf(step.bytes);
      }),
    ];
    let before: number | undefined;
    const cells = totals.map((total) => {
      if (total === undefined) return NONE;
      const saved =
        before === undefined ? '' : ` (${total <= before ? '-' : '+'}${Math.abs(before - total)})`;
      before = total;
      return `${total}${saved}`;
    });
    return [id, ...cells];
  });
  return [
    '',
    'Both directions, layer by layer, and what each takes away from the one before; in a pipe with all layers up to that one:',
    textTable([heading, ...table]),
  ];
}

function spreads(rows: readonly Row[], texts: number): string[] {
  const measured = rows.flatMap(({ id, spread }) => (spread === undefined ? [] : [[id, spread] as const]));
  if (measured.length === 0) return [];
  const line = ([id, { median, p95 }]: readonly [string, Spread]) => [id, bytesText(median), bytesText(p95)];
  return [
    '',
    `Over ${texts} lines of chat in eight languages that no dictionary or model was made from:`,
    textTable([['', 'MEDIAN', '95TH PERCENTILE'], ...measured.map(line)]),
  ];
}

const FOOTER = `
Bytes on an Ethernet wire, request / response or in all: 42 for Ethernet, IPv4 and UDP, and the datagram, as captured on the
emulated link between whole servers and clients, in a session that is established (but for W6).
HTTPS+JSON is the same exchange with the same server on 127.0.0.1 by TLS 1.3, through a relay that counts; each segment has 66
bytes of Ethernet, IPv4, TCP and timestamps and carries up to 1,448, there is an acknowledgement of 66 for every two
segments and one at the end of an exchange. Kept: on a connection that was open before. One connection each: with SYN, handshake
without resumption and FIN for every message. Nothing is lost or sent twice: a real connection takes at least this.`;
