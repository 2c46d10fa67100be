import { lex, selectorProblem, Token, WordOperator } from "./lex.ts";

/** Comparison of a label with one value. */
export type ValueOperator = "==" | "!=" | Exclude<WordOperator, "in" | "not in">;

/** The tree of a selector. Sets are sorted by bytes and free of doubles; groups have at least two operands. */
export type Node =
  | { is: "all" }
  | { is: "global" }
  | { is: "has"; label: string }
  | { is: "value"; operator: ValueOperator; label: string; value: string }
  | { is: "set"; operator: "in" | "not in"; label: string; values: string[] }
  | { is: "not"; operand: Node }
  | { is: "and"; operands: Node[] }
  | { is: "or"; operands: Node[] };

/** Deepest nesting of parentheses; a recursion deeper than that could exhaust the stack. */
const maxDepth = 500;

/**
 * The tree of a selector's text; empty or blank text selects all. Lowest precedence first: `||`, `&&`, `!`; `!` binds to
 * one primary only.
 * DIFFERS: more than 500 nested parentheses are refused; Calico has no limit.
 * Source: Calico's libcalico-go/lib/selector/parser.
 * @throws Problem "bad-input" with the position.
 */
export function parseTree(text: string): Node {
  const parser = new Parser(text, lex(text));
  return parser.whole();
}

class Parser {
  #next = 0;
  #depth = 0;
  constructor(private readonly text: string, private readonly tokens: Token[]) {}

  whole(): Node {
    if (this.#peek().kind === "end") return { is: "all" };
    const node = this.#or();
    if (this.#peek().kind !== "end") throw this.#problem(`unexpected ${shown(this.#peek())} after the end`);
    return node;
  }

  #or(): Node {
    return this.#group("or", "||", () => this.#group("and", "&&", () => this.#unary()));
  }

  #group(is: "and" | "or", operator: "&&" | "||", operand: () => Node): Node {
    const operands = [operand()];
    while (this.#take(operator)) operands.push(operand());
    return operands.length === 1 ? operands[0]! : { is, operands };
  }

  #unary(): Node {
    let negated = false;
    while (this.#take("!")) negated = !negated;
    const operand = this.#primary();
    return negated ? { is: "not", operand } : operand;
  }

  #primary(): Node {
    const token = this.#peek();
    this.#next++;
    switch (token.kind) {
      case "all":
      case "global":
        return { is: token.kind };
      case "has":
        return { is: "has", label: token.value };
      case "label":
        return this.#comparison(token.value);
      case "(":
        return this.#parentheses();
      default:
        this.#next--;
        throw this.#problem(`expected a condition, found ${shown(token)}`);
    }
  }

  #parentheses(): Node {
    if (++this.#depth > maxDepth) throw this.#problem(`more than ${maxDepth} nested parentheses`);
    const node = this.#or();
    this.#expect(")", "expected ) or an operator");
    this.#depth--;
    return node;
  }

  #comparison(label: string): Node {
    const operator = this.#peek().kind;
    switch (operator) {
      case "==":
      case "!=":
      case "contains":
      case "starts with":
      case "ends with":
        this.#next++;
        return { is: "value", operator, label, value: this.#expect("string", "expected a value in quotes").value };
      case "in":
      case "not in":
        this.#next++;
        return { is: "set", operator, label, values: this.#set() };
      default:
        throw this.#problem(`expected an operator after the label ${JSON.stringify(label)}`);
    }
  }

  #set(): string[] {
    this.#expect("{", "expected { and a list of values");
    const values: string[] = [];
    while (this.#peek().kind === "string") {
      values.push(this.#peek().value);
      this.#next++;
      if (!this.#take(",")) break;
    }
    this.#expect("}", "expected } or a value in quotes");
    return sortedSet(values);
  }

  #peek(): Token {
    return this.tokens[this.#next]!;
  }

  #take(kind: Token["kind"]): boolean {
    if (this.#peek().kind !== kind) return false;
    this.#next++;
    return true;
  }

  #expect(kind: Token["kind"], why: string): Token {
    const token = this.#peek();
    if (token.kind !== kind) throw this.#problem(`${why}, found ${shown(token)}`);
    this.#next++;
    return token;
  }

  #problem(why: string): Error {
    return selectorProblem(this.text, this.#peek().at, why);
  }
}

function shown(token: Token): string {
  if (token.kind === "end") return "the end of the text";
  if (token.kind === "string") return `the string ${JSON.stringify(token.value)}`;
  if (token.kind === "label") return `the label ${JSON.stringify(token.value)}`;
  return token.kind;
}

/** Each value once, in the order of their UTF-8 bytes, which is the order of their code points. */
function sortedSet(values: string[]): string[] {
  return [...new Set(values)].sort(compareCodePoints);
}

/** Order by code point; JavaScript's own order compares UTF-16 units and puts U+10000 and above before U+E000. */
export function compareCodePoints(a: string, b: string): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    const x = a.charCodeAt(i), y = b.charCodeAt(i);
    if (x === y) continue;
    const bothSides = isSurrogate(x) === isSurrogate(y);
    return bothSides ? x - y : isSurrogate(x) ? 1 : -1;
  }
  return a.length - b.length;
}

const isSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdfff;
