import { Problem } from "../../lib/problem.ts";

/** Word operators, which are only looked for directly after a label. */
export type WordOperator = "contains" | "starts with" | "ends with" | "in" | "not in";

/** What a token is. "has" carries its label, "all" and "global" are whole calls, "end" closes every list. */
export type TokenKind =
  | "label"
  | "string"
  | "has"
  | "all"
  | "global"
  | WordOperator
  | "=="
  | "!="
  | "!"
  | "&&"
  | "||"
  | "("
  | ")"
  | "{"
  | "}"
  | ","
  | "end";

/** A token of a selector. `value` is the label's name or the string without quotes; `at` counts UTF-16 units from 0. */
export interface Token {
  kind: TokenKind;
  value: string;
  at: number;
}

/** Longest label name, in characters. */
export const maxLabelLength = 512;

const labelPattern = /[A-Za-z0-9_./-]+/y;
const symbolPattern = /==|!=|&&|\|\||[!(){},]/y;
const callPattern = /(has|all|global)\(/y;
const whitespace = /[ \t]*/y;
const endOfWord = "(?![A-Za-z0-9_./-])";
const operatorPattern = new RegExp(
  `(?:(contains)|(starts[ \\t]*with[ \\t]*)|(ends[ \\t]*with[ \\t]*)|(not[ \\t]*in[ \\t]*)|(in))${endOfWord}`,
  "y",
);
const wordOperators: WordOperator[] = ["contains", "starts with", "ends with", "not in", "in"];

/** True when `name` may stand as a label in a selector: `[A-Za-z0-9_./-]`, 1 to 512 characters. */
export function isLabelName(name: string): boolean {
  return name.length <= maxLabelLength && /^[A-Za-z0-9_./-]+$/.test(name);
}

/** The Problem of a selector that cannot be read; names the text and the place, counted from 1. */
export function selectorProblem(text: string, at: number, why: string): Problem {
  const shown = text.length > 200 ? `${text.slice(0, 200)}…` : text;
  return new Problem({
    code: "bad-input",
    what: `selector cannot be understood: ${why}`,
    where: `character ${at + 1} of ${JSON.stringify(shown)}`,
  });
}

/**
 * Splits a selector into tokens; the last one is "end". Which words are operators depends on the token before: after a
 * label every word must be one, elsewhere `in`, `not` or `contains` are label names. Whitespace is space and tab only.
 * Source: Calico's libcalico-go/lib/selector/tokenizer.
 * @throws Problem "bad-input" with the position.
 */
export function lex(text: string): Token[] {
  const tokens: Token[] = [];
  for (let at = skip(text, 0); at < text.length;) {
    const { token, next } = tokenAt(text, at, tokens.at(-1));
    tokens.push(token);
    at = skip(text, next);
  }
  tokens.push({ kind: "end", value: "", at: text.length });
  return tokens;
}

/** A token and where the text goes on after it. */
interface Step {
  token: Token;
  next: number;
}

function tokenAt(text: string, at: number, before: Token | undefined): Step {
  const quote = text[at];
  if (quote === '"' || quote === "'") return stringAt(text, at, quote);
  const symbol = match(symbolPattern, text, at)?.[0];
  if (symbol) return { token: { kind: symbol as TokenKind, value: "", at }, next: at + symbol.length };
  if (quote === "=" || quote === "&" || quote === "|") throw selectorProblem(text, at, `expected ${quote}${quote}`);
  if (before?.kind === "label") return operatorAt(text, at, before);
  const call = match(callPattern, text, at);
  return call ? callAt(text, at, call[1] as "has" | "all" | "global") : labelAt(text, at, at);
}

function stringAt(text: string, at: number, quote: string): Step {
  const end = text.indexOf(quote, at + 1);
  if (end < 0) throw selectorProblem(text, at, "the string has no closing quote");
  return { token: { kind: "string", value: text.slice(at + 1, end), at }, next: end + 1 };
}

function operatorAt(text: string, at: number, label: Token): Step {
  const found = match(operatorPattern, text, at);
  if (!found) throw selectorProblem(text, at, `expected an operator after the label ${JSON.stringify(label.value)}`);
  const kind = wordOperators[found.slice(1).findIndex((word) => word !== undefined)]!;
  return { token: { kind, value: "", at }, next: at + found[0].length };
}

function callAt(text: string, at: number, name: "has" | "all" | "global"): Step {
  let next = skip(text, at + name.length + 1);
  let value = "";
  if (name === "has") {
    const label = labelAt(text, next, at);
    value = label.token.value;
    next = skip(text, label.next);
  }
  if (text[next] !== ")") throw selectorProblem(text, next, `expected ) to close ${name}(`);
  return { token: { kind: name, value, at }, next: next + 1 };
}

/** @param at where the label begins. @param start where the token begins that it belongs to. */
function labelAt(text: string, at: number, start: number): Step {
  const value = match(labelPattern, text, at)?.[0];
  if (!value) throw selectorProblem(text, at, "expected a label name");
  if (value.length > maxLabelLength) {
    throw selectorProblem(text, at, `the label name is longer than ${maxLabelLength} characters`);
  }
  return { token: { kind: "label", value, at: start }, next: at + value.length };
}

const skip = (text: string, at: number): number => at + match(whitespace, text, at)![0].length;

/** The match of a sticky pattern exactly at `at`. */
function match(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}
