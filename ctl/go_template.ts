import { badInput } from "./command.ts";
import { type GoValue, isTrue, memberOf, printed, scalarOf } from "./go_values.ts";

/** A parsed piece of a template. */
type Node =
  | { is: "text"; text: string }
  | { is: "print"; pipe: Pipe }
  | { is: "block"; word: "range" | "if" | "with"; pipe: Pipe; body: Node[]; otherwise: Node[] };

/** Commands joined by `|`: the value of each is the last argument of the next. */
type Pipe = Operand[][];

type Operand =
  | { is: "constant"; value: GoValue }
  | { is: "path"; root: boolean; names: string[] }
  | { is: "call"; name: string }
  | { is: "group"; pipe: Pipe; names: string[] };

/** What functions know beside their arguments. */
export interface TemplateContext {
  asNumber: number;
}

/** Text up to an action, and the action between double braces with its signs that blanks are to be trimmed. */
const actionPattern = new RegExp("([\\s\\S]*?)" + "[{]{2}(-\\s)?([\\s\\S]*?)(\\s-)?[}]{2}", "g");

const isComment = (action: string): boolean => /^\s*[/][*]/.test(action);

/**
 * Runs a Go template over what `get` found. The subset: text, fields, range, if, else, with, end, pipes, parentheses, and
 * the functions join joinAndTruncate config len eq ne not and or print printf index. Variables and templates are refused.
 * @throws Problem "bad-input" that names what is not understood.
 */
export function runTemplate(text: string, root: GoValue, context: TemplateContext): string {
  const pieces = [...text.matchAll(actionPattern)];
  const tail = text.slice(pieces.reduce((n, p) => n + p[0].length, 0));
  if (tail.includes("{{")) throw badInput("template: an action is not closed by }}");
  const tokens: (string | { action: string })[] = [];
  let trim = false;
  for (const [, before, trimLeft, action, trimRight] of pieces) {
    const left = trim ? before!.trimStart() : before!;
    tokens.push(trimLeft ? left.trimEnd() : left);
    if (!isComment(action!)) tokens.push({ action: action!.trim() });
    trim = trimRight !== undefined;
  }
  tokens.push(trim ? tail.trimStart() : tail);
  const parser = new Parser(tokens);
  const nodes = parser.body();
  parser.expectEnd();
  return nodes.map((node) => run(node, root, root, context)).join("");
}

class Parser {
  #at = 0;
  constructor(private readonly tokens: (string | { action: string })[]) {}

  /** Nodes up to `end`, `else` or the end of the text. */
  body(): Node[] {
    const nodes: Node[] = [];
    for (let token = this.#peek(); token !== undefined; token = this.#peek()) {
      if (typeof token !== "string" && /^(end|else)\b/.test(token.action)) break;
      this.#at++;
      nodes.push(typeof token === "string" ? { is: "text", text: token } : this.#action(token.action));
    }
    return nodes;
  }

  expectEnd(): void {
    const token = this.#peek();
    if (token !== undefined) throw badInput(`template: unexpected {{${(token as { action: string }).action}}}`);
  }

  #peek(): string | { action: string } | undefined {
    return this.tokens[this.#at];
  }

  #action(action: string): Node {
    const [, word, rest] = /^(range|if|with)\s+([\s\S]*)$/.exec(action) ?? [];
    if (!word) return { is: "print", pipe: parsePipe(action) };
    const block = { is: "block", word: word as "range", pipe: parsePipe(rest!), body: this.body() } as const;
    const next = this.#peek();
    if (next === undefined) throw badInput(`template: {{${action}}} has no {{end}}`);
    this.#at++;
    const { action: closing } = next as { action: string };
    if (closing === "end") return { ...block, otherwise: [] };
    const chained = closing.replace(/^else\s*/, "");
    if (chained) return { ...block, otherwise: [this.#action(chained)] };
    const otherwise = this.body();
    if ((this.#peek() as { action?: string } | undefined)?.action !== "end") {
      throw badInput(`template: {{else}} of {{${action}}} has no {{end}}`);
    }
    this.#at++;
    return { ...block, otherwise };
  }
}

const tokenPattern = /\s*("(?:\\.|[^"\\])*"|`[^`]*`|-?\d+(?:\.\d+)?|\||\(|\)(?:\.\w+)*|\$?(?:\.\w+)+|\$|\.|\w+|\S)/gy;

function parsePipe(text: string): Pipe {
  const tokens = [...text.matchAll(tokenPattern)].map((m) => m[1]!);
  const pipe = readPipe(tokens);
  if (tokens.length > 0) throw badInput(`template: "${tokens[0]}" is not understood in {{${text}}}`);
  return pipe;
}

/** Takes a pipe off the front of `tokens`, up to a closing parenthesis. */
function readPipe(tokens: string[]): Pipe {
  const pipe: Pipe = [[]];
  while (tokens.length > 0 && !tokens[0]!.startsWith(")")) {
    const token = tokens.shift()!;
    if (token === "|") pipe.push([]);
    else if (token === "(") {
      const inner = readPipe(tokens);
      const closing = tokens.shift();
      if (closing === undefined) throw badInput("template: a parenthesis is not closed");
      pipe.at(-1)!.push({ is: "group", pipe: inner, names: closing.slice(1).split(".").filter((n) => n !== "") });
    } else pipe.at(-1)!.push(operandOf(token));
  }
  if (pipe.some((command) => command.length === 0)) throw badInput("template: an action or a part of a pipe is empty");
  return pipe;
}

function operandOf(token: string): Operand {
  if (token.startsWith('"')) return { is: "constant", value: scalarOf(JSON.parse(token)) };
  if (token.startsWith("`")) return { is: "constant", value: scalarOf(token.slice(1, -1)) };
  if (/^-?\d/.test(token)) return { is: "constant", value: scalarOf(Number(token)) };
  if (token === "true" || token === "false") return { is: "constant", value: scalarOf(token === "true") };
  if (token === "nil") return { is: "constant", value: { is: "nil" } };
  if (/^\$?(\.\w+)*$|^\.$/.test(token) && token !== "") {
    return {
      is: "path",
      root: token.startsWith("$"),
      names: token.replace(/^\$/, "").split(".").filter((n) => n !== ""),
    };
  }
  if (/^[a-zA-Z]\w*$/.test(token)) return { is: "call", name: token };
  throw badInput(`template: "${token}" is not understood`);
}

function run(node: Node, dot: GoValue, root: GoValue, context: TemplateContext): string {
  if (node.is === "text") return node.text;
  const value = evaluate(node.pipe, dot, root, context);
  if (node.is === "print") return printed(value);
  const all = (nodes: Node[], at: GoValue) => nodes.map((n) => run(n, at, root, context)).join("");
  if (!isTrue(value)) return all(node.otherwise, dot);
  if (node.word === "if") return all(node.body, dot);
  if (node.word === "with") return all(node.body, value);
  return itemsOf(value).map((item) => all(node.body, item)).join("");
}

function itemsOf(value: GoValue): GoValue[] {
  if (value.is === "list") return value.items;
  if (value.is === "map") return value.entries.map(([, v]) => v);
  throw badInput(`template: range cannot go over a value that is ${value.is}`);
}

function evaluate(pipe: Pipe, dot: GoValue, root: GoValue, context: TemplateContext): GoValue {
  let last: GoValue | undefined;
  for (const command of pipe) {
    const values = command.slice(1).map((operand) => operandValue(operand, dot, root, context));
    const args = last === undefined ? values : [...values, last];
    const [first] = command as [Operand];
    if (first.is === "call") last = call(first.name, args, context);
    else if (args.length === 0) last = operandValue(first, dot, root, context);
    else throw badInput("template: only functions take arguments");
  }
  return last!;
}

function operandValue(operand: Operand, dot: GoValue, root: GoValue, context: TemplateContext): GoValue {
  switch (operand.is) {
    case "constant":
      return operand.value;
    case "call":
      return call(operand.name, [], context);
    case "path":
      return operand.names.reduce(memberOf, operand.root ? root : dot);
    case "group":
      return operand.names.reduce(memberOf, evaluate(operand.pipe, dot, root, context));
  }
}

function call(name: string, args: GoValue[], context: TemplateContext): GoValue {
  const [a = { is: "nil" } as GoValue, b = { is: "nil" } as GoValue, c] = args;
  switch (name) {
    case "join":
      return scalarOf(joined(a, printed(b)));
    case "joinAndTruncate": {
      const text = joined(a, printed(b)), max = Number(printed(c ?? scalarOf(0)));
      return scalarOf(text.length > max ? `${text.slice(0, max - 3)}...` : text);
    }
    case "config":
      return scalarOf(printed(a) === "asnumber" ? context.asNumber : "");
    case "len":
      return scalarOf(a.is === "scalar" ? String(a.value).length : itemsOf(a).length);
    case "eq":
      return scalarOf(args.slice(1).some((x) => printed(x) === printed(a)));
    case "ne":
      return scalarOf(printed(a) !== printed(b));
    case "not":
      return scalarOf(!isTrue(a));
    case "and":
      return args.find((x) => !isTrue(x)) ?? args.at(-1)!;
    case "or":
      return args.find(isTrue) ?? args.at(-1)!;
    case "index":
      return a.is === "list" ? a.items[Number(printed(b))] ?? { is: "nil" } : memberOf(a, printed(b));
    case "print":
      return scalarOf(args.map(printed).join(""));
    case "println":
      return scalarOf(args.map(printed).join(" ") + "\n");
    case "printf":
      return scalarOf(format(printed(a), args.slice(1)));
  }
  throw badInput(`template: function "${name}" is not known`);
}

/** Items of a list, or sorted `k=v` of a map, joined. */
function joined(value: GoValue, separator: string): string {
  if (value.is === "map") return value.entries.map(([k, v]) => `${k}=${printed(v)}`).sort().join(separator);
  return value.is === "nil" ? "" : itemsOf(value).map(printed).join(separator);
}

/** printf with %v %s %d %q %t and a width. */
function format(pattern: string, args: GoValue[]): string {
  let next = 0;
  return pattern.replace(/%(-?)(\d*)([vsdqt%])/g, (_, left: string, width: string, verb: string) => {
    if (verb === "%") return "%";
    const text = printed(args[next++] ?? { is: "nil" });
    const shown = verb === "q" ? JSON.stringify(text) : text;
    return left ? shown.padEnd(Number(width)) : shown.padStart(Number(width));
  });
}
