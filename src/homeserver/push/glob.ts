/** A run of any characters, and any one character, where a pattern's characters are code points. */
const RUN = -1;
const ONE = -2;

/** What is left of the work that may be done for somebody; each comparison takes one step. */
export interface Steps {
  left: number;
}

/** A text in the form in which texts are compared regardless of case. */
export class FoldedText {
  readonly text: string;
  #points: readonly number[] | undefined;

  constructor(text: string) {
    this.text = fold(text);
  }

  /** Code points. */
  get points(): readonly number[] {
    this.#points ??= Array.from(this.text, (character) => character.codePointAt(0)!);
    return this.#points;
  }
}

/** A pattern of the appendices' "Glob-style matching": `*` stands for any characters or none, `?` for one. */
export class Glob {
  readonly #pattern: readonly number[];
  /** Where there is no wildcard. */
  readonly #literal: string | undefined;

  /** @param isLiteral whether `*` and `?` stand for themselves */
  constructor(pattern: string, isLiteral = false) {
    const folded = fold(pattern);
    this.#literal = !isLiteral && /[*?]/.test(folded) ? undefined : folded;
    this.#pattern = Array.from(folded.replace(/\*+/g, '*'), (character) =>
      character === '*' ? RUN : character === '?' ? ONE : character.codePointAt(0)!,
    );
  }

  /** Whether the pattern matches the whole text; false where the steps run out. */
  matchesWhole(subject: FoldedText, steps: Steps): boolean {
    if (this.#literal !== undefined) return subject.text === this.#literal;
    const { points } = subject;
    return this.#run(
      points,
      (at) => at === 0,
      (at) => at === points.length,
      steps,
    );
  }

  /**
   * Whether the pattern matches a part of the text that starts and ends at a word boundary (client-server API, "Conditions",
   * event_match of content.body); false where the steps run out.
   */
  matchesWords(subject: FoldedText, steps: Steps): boolean {
    const literal = this.#literal;
    if (literal === undefined) {
      const { points } = subject;
      const boundary = (at: number): boolean => !isWord(points[at - 1]) || !isWord(points[at]);
      return this.#run(points, boundary, boundary, steps);
    }
    const { text } = subject;
    const isBoundary = (at: number): boolean =>
      !isWord(text.charCodeAt(at - 1)) || !isWord(text.charCodeAt(at));
    for (let at = text.indexOf(literal); at >= 0; at = text.indexOf(literal, at + 1)) {
      if (isBoundary(at) && isBoundary(at + literal.length)) return true;
      if (at === text.length || --steps.left < 0) return false;
    }
    return false;
  }

  /** Follows at once all places of the pattern at which a match can be: in as many steps as the text is long times the pattern. */
  #run(
    points: readonly number[],
    mayStart: (at: number) => boolean,
    mayEnd: (at: number) => boolean,
    steps: Steps,
  ): boolean {
    const pattern = this.#pattern;
    let places: number[] = [];
    /** The last position of the text at which each place was entered. */
    const entered = new Int32Array(pattern.length + 1).fill(-1);
    const enter = (into: number[], place: number, at: number): void => {
      for (let next = place; entered[next] !== at; next++) {
        entered[next] = at;
        into.push(next);
        if (pattern[next] !== RUN) return;
      }
    };
    for (let at = 0; ; at++) {
      if (mayStart(at)) enter(places, 0, at);
      if (entered[pattern.length] === at && mayEnd(at)) return true;
      if (at === points.length) return false;
      const following: number[] = [];
      for (const place of places) {
        if (--steps.left < 0) return false;
        const wanted = pattern[place];
        if (wanted === RUN) enter(following, place, at + 1);
        else if (wanted === ONE || wanted === points[at]) enter(following, place + 1, at + 1);
      }
      places = following;
    }
  }
}

/** Of a text's ends NaN or undefined. */
function isWord(code: number | undefined): boolean {
  if (code === undefined) return false;
  const isDigit = code >= 48 && code <= 57;
  const isLetter = (code >= 65 && code <= 90) || (code >= 97 && code <= 122);
  return isDigit || isLetter || code === 95;
}

/** Both ways, so that letters with two small forms are the same. */
function fold(text: string): string {
  if (/^[ -~]*$/.test(text)) return text.toLowerCase();
  return Array.from(text, (character) => character.toUpperCase().toLowerCase()).join('');
}
