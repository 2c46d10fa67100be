/**
 * Reads the part of BIRD 2's configuration language that a speaker's configuration needs, from its text alone: no code of
 * the project is used, so what is read is what BIRD would read, not what we meant.
 */

/** A statement of a block: its words up to `;` or `{`, and the block when it has one. Code is parsed further. */
export interface Statement {
  words: string[];
  block?: Statement[];
  code?: Code[];
}

/** A statement of filter code. */
export type Code =
  | { is: "if"; test: Expr; then: Code[]; otherwise: Code[] }
  | { is: "set"; name: string; value: Expr }
  | { is: "method"; name: string; method: string; argument: Expr }
  | { is: "call"; name: string; arguments: Expr[] }
  | { is: "end"; verdict: "accept" | "reject" };

/** An expression of filter code. */
export type Expr =
  | { is: "value"; value: boolean | number | string }
  | { is: "net"; text: string }
  | { is: "name"; name: string }
  | { is: "defined"; name: string }
  | { is: "tuple"; parts: Expr[] }
  | { is: "range"; net: string; low: number; high: number }
  | { is: "path"; prefix: number[] }
  | { is: "not"; of: Expr }
  | { is: "binary"; operator: string; left: Expr; right: Expr };

/** Functions and filters of a configuration, and its other statements. */
export interface Configuration {
  statements: Statement[];
  functions: Map<string, { parameters: string[]; body: Code[] }>;
  filters: Map<string, Code[]>;
}

const token =
  /\s+|#[^\n]*|"[^"\n]*"|'[^'\n]*'|\d+\.\d+\.\d+\.\d+(?:\/\d+)?|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?:\/\d+)?|[A-Za-z_]\w*|\d+|\|\||&&|!=|!~|[=<>~!(){}[\];,.*+-]/y;

/** Parses a whole configuration. @throws Error with the text around what it does not know. */
export function parseConfiguration(text: string): Configuration {
  const parser = new Parser(tokens(text));
  const out: Configuration = { statements: [], functions: new Map(), filters: new Map() };
  while (parser.next() !== undefined) {
    if (parser.next() === "function") {
      parser.take();
      const name = unquote(parser.take());
      const parameters = parser.parameters();
      out.functions.set(name, { parameters, body: parser.codeBlock() });
    } else if (parser.next() === "filter") {
      parser.take();
      out.filters.set(unquote(parser.take()), parser.codeBlock());
    } else out.statements.push(parser.statement());
  }
  return out;
}

const unquote = (word: string): string => word.replace(/^['"](.*)['"]$/, "$1");

function tokens(text: string): string[] {
  const out: string[] = [];
  token.lastIndex = 0;
  for (let at = 0; at < text.length; at = token.lastIndex) {
    const found = token.exec(text);
    if (!found) throw new Error(`BIRD text not understood: ${text.slice(at, at + 60)}`);
    if (!/^(\s|#)/.test(found[0])) out.push(found[0]);
  }
  return out;
}

class Parser {
  #at = 0;
  constructor(readonly tokens: string[]) {}

  next(ahead = 0): string | undefined {
    return this.tokens[this.#at + ahead];
  }

  take(expected?: string): string {
    const word = this.tokens[this.#at++];
    if (word === undefined || (expected !== undefined && word !== expected)) {
      const around = this.tokens.slice(Math.max(0, this.#at - 8), this.#at + 4).join(" ");
      throw new Error(`expected ${expected ?? "more"}, found ${word} in: ${around}`);
    }
    return word;
  }

  #has(word: string): boolean {
    if (this.next() !== word) return false;
    this.#at++;
    return true;
  }

  /** A statement of configuration proper. `import filter { … };` holds code. */
  statement(): Statement {
    const words: string[] = [];
    while (this.next() !== ";" && this.next() !== "{") words.push(unquote(this.take()));
    if (this.#has(";")) return { words };
    if (words.at(-1) === "filter" && ["import", "export"].includes(words[0]!)) {
      const code = this.codeBlock();
      this.#has(";");
      return { words, code };
    }
    // `debug { states, events };` is a list, not a block.
    if (words.at(-1) === "debug" || words[0] === "log") {
      while (!this.#has("}")) words.push(this.take());
      this.#has(";");
      return { words };
    }
    this.take("{");
    const block: Statement[] = [];
    while (!this.#has("}")) block.push(this.statement());
    this.#has(";");
    return { words, block };
  }

  parameters(): string[] {
    const names: string[] = [];
    this.take("(");
    while (!this.#has(")")) {
      this.take("bool");
      names.push(this.take());
    }
    return names;
  }

  codeBlock(): Code[] {
    this.take("{");
    const out: Code[] = [];
    while (!this.#has("}")) out.push(this.#code());
    return out;
  }

  #code(): Code {
    const word = this.take();
    if (word === "accept" || word === "reject") {
      this.take(";");
      return { is: "end", verdict: word };
    }
    if (word === "if") {
      const test = this.expression();
      this.take("then");
      const then = this.#branch();
      return { is: "if", test, then, otherwise: this.#has("else") ? this.#branch() : [] };
    }
    const name = unquote(word);
    if (this.#has("=")) {
      const value = this.expression();
      this.take(";");
      return { is: "set", name, value };
    }
    if (this.#has(".")) {
      const method = this.take();
      this.take("(");
      const argument = this.expression();
      this.take(")");
      this.take(";");
      return { is: "method", name, method, argument };
    }
    this.take("(");
    const args: Expr[] = [];
    while (!this.#has(")")) {
      args.push(this.expression());
      this.#has(",");
    }
    this.take(";");
    return { is: "call", name, arguments: args };
  }

  #branch(): Code[] {
    return this.next() === "{" ? this.codeBlock() : [this.#code()];
  }

  expression(level = 0): Expr {
    const levels = [["||"], ["&&"], ["=", "!=", "<", ">", "~", "!~"], ["+", "-"]];
    if (level === levels.length) return this.#unary();
    let left = this.expression(level + 1);
    while (levels[level]!.includes(this.next() ?? "")) {
      const operator = this.take();
      left = { is: "binary", operator, left, right: this.expression(level + 1) };
    }
    return left;
  }

  #unary(): Expr {
    if (this.#has("!")) return { is: "not", of: this.#unary() };
    if (this.#has("(")) return this.#parenthesis();
    if (this.#has("[")) return this.#set();
    const word = this.take();
    if (word === "true" || word === "false") return { is: "value", value: word === "true" };
    if (/^\d+$/.test(word)) return { is: "value", value: Number(word) };
    if (word.startsWith('"')) return { is: "value", value: unquote(word) };
    if (/[.:]/.test(word)) return { is: "net", text: word };
    if (word !== "defined") return { is: "name", name: word };
    this.take("(");
    const name = this.take();
    this.take(")");
    return { is: "defined", name };
  }

  #parenthesis(): Expr {
    const parts = [this.expression()];
    while (this.#has(",")) parts.push(this.expression());
    this.take(")");
    return parts.length === 1 ? parts[0]! : { is: "tuple", parts };
  }

  /** `[ 10.0.0.0/8{9,16} ]` or `[= 65010 65020 * =]`. */
  #set(): Expr {
    if (this.#has("=")) {
      const prefix: number[] = [];
      while (!this.#has("*")) prefix.push(Number(this.take()));
      this.take("=");
      this.take("]");
      return { is: "path", prefix };
    }
    const net = this.take();
    this.take("{");
    const low = Number(this.take());
    this.take(",");
    const high = Number(this.take());
    this.take("}");
    this.take("]");
    return { is: "range", net, low, high };
  }
}
