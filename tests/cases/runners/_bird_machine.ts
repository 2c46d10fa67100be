import type { Code, Configuration, Expr } from "./_bird_language.ts";

/** A route as BIRD 2 has it when a filter begins. Absent attributes are not defined. */
export interface Route {
  net: string;
  source: "RTS_INHERIT" | "RTS_STATIC" | "RTS_DEVICE" | "RTS_BGP";
  ifname?: string;
  krt_metric?: number;
  bgp_local_pref?: number;
  bgp_next_hop?: string;
  preference?: number;
  bgp_path: number[];
  bgp_community: string[];
  bgp_large_community: string[];
}

/** What a filter made of a route: its attributes afterwards, or undefined for reject. */
export type Verdict = Route | undefined;

/** Runs filter code on a copy of the route, as BIRD 2 would. @throws Error on what it does not know. */
export function judge(configuration: Configuration, code: Code[], route: Route): Verdict {
  const machine = new Machine(configuration, structuredClone(route));
  const end = machine.run(code, new Map());
  if (end === undefined) throw new Error("the filter ended without accept or reject");
  return end === "accept" ? machine.route : undefined;
}

type Value = boolean | number | string | number[] | string[] | undefined;

class Machine {
  constructor(readonly configuration: Configuration, readonly route: Route) {}

  run(code: Code[], scope: Map<string, boolean>): "accept" | "reject" | undefined {
    for (const one of code) {
      const end = this.#step(one, scope);
      if (end) return end;
    }
    return undefined;
  }

  #step(one: Code, scope: Map<string, boolean>): "accept" | "reject" | undefined {
    switch (one.is) {
      case "end":
        return one.verdict;
      case "if":
        return this.run(this.#value(one.test, scope) === true ? one.then : one.otherwise, scope);
      case "set": {
        const value = this.#value(one.value, scope);
        if (typeof value !== "number" || !["krt_metric", "bgp_local_pref", "preference"].includes(one.name)) {
          throw new Error(`cannot set ${one.name}`);
        }
        (this.route as unknown as Record<string, number>)[one.name] = value;
        return undefined;
      }
      case "method":
        return this.#method(one.name, one.method, this.#value(one.argument, scope));
      case "call": {
        const called = this.configuration.functions.get(one.name);
        if (!called) throw new Error(`no function ${one.name}`);
        const given = one.arguments.map((a) => this.#value(a, scope) === true);
        if (given.length !== called.parameters.length) throw new Error(`${one.name} takes other arguments`);
        return this.run(called.body, new Map(called.parameters.map((p, i) => [p, given[i]!])));
      }
    }
  }

  #method(name: string, method: string, argument: Value): undefined {
    if (name === "bgp_path" && method === "prepend") this.route.bgp_path.unshift(argument as number);
    else if ((name === "bgp_community" || name === "bgp_large_community") && method === "add") {
      const list = this.route[name];
      if (!list.includes(argument as string)) list.push(argument as string);
    } else throw new Error(`no method ${name}.${method}`);
  }

  #value(e: Expr, scope: Map<string, boolean>): Value {
    switch (e.is) {
      case "value":
        return e.value;
      case "net":
        return e.text;
      case "defined":
        return (this.route as unknown as Record<string, Value>)[e.name] !== undefined;
      case "tuple":
        return e.parts.map((p) => this.#value(p, scope)).join(":");
      case "not":
        return this.#value(e.of, scope) !== true;
      case "name":
        if (scope.has(e.name)) return scope.get(e.name)!;
        if (e.name.startsWith("RTS_")) return e.name;
        // BIRD 2 knows the interface of every route; it is "" for those without one.
        if (e.name === "ifname") return this.route.ifname ?? "";
        return (this.route as unknown as Record<string, Value>)[e.name];
      case "binary":
        return this.#binary(e, scope);
      default:
        throw new Error(`${e.is} outside a match`);
    }
  }

  #binary(e: Expr & { is: "binary" }, scope: Map<string, boolean>): Value {
    const left = this.#value(e.left, scope);
    if (e.operator === "&&") return left === true && this.#value(e.right, scope) === true;
    if (e.operator === "||") return left === true || this.#value(e.right, scope) === true;
    if (e.operator === "~") return matches(left, e.right, () => this.#value(e.right, scope));
    if (e.operator === "!~") return !matches(left, e.right, () => this.#value(e.right, scope));
    const right = this.#value(e.right, scope);
    if (e.operator === "=") return left === right;
    if (e.operator === "!=") return left !== right;
    if (typeof left !== "number" || typeof right !== "number") throw new Error(`${left} ${e.operator} ${right}`);
    return { "<": left < right, ">": left > right, "-": left - right, "+": left + right }[e.operator];
  }
}

function matches(left: Value, right: Expr, value: () => Value): boolean {
  if (right.is === "range") {
    const length = Number(String(left).split("/")[1]);
    return length >= right.low && length <= right.high && inside(String(left), right.net);
  }
  if (right.is === "path") return right.prefix.every((as, i) => (left as number[])[i] === as);
  const list = value();
  if (Array.isArray(list)) return (list as string[]).includes(left as string);
  if (right.is === "net") return inside(String(left), right.text);
  const pattern = String(list).replaceAll(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  return new RegExp(`^${pattern}$`).test(String(left));
}

/** True when the network (or address) `inner` lies in `outer`. */
export function inside(inner: string, outer: string): boolean {
  const [a, b] = [bitString(inner), bitString(outer)];
  return a.width === b.width && a.bits.length >= b.bits.length && a.bits.startsWith(b.bits);
}

/** The leading bits of a network as 0s and 1s, and the width of its family. */
function bitString(text: string): { bits: string; width: number } {
  const [address, length] = text.split("/") as [string, string | undefined];
  const six = address.includes(":");
  const groups = six ? expand(address) : address.split(".").map(Number);
  const width = six ? 128 : 32;
  const all = groups.map((g) => g.toString(2).padStart(six ? 16 : 8, "0")).join("");
  return { bits: all.slice(0, length === undefined ? width : Number(length)), width };
}

function expand(address: string): number[] {
  const [head = "", tail] = address.split("::");
  const part = (s: string) => (s === "" ? [] : s.split(":").map((g) => parseInt(g, 16)));
  if (tail === undefined) return part(head);
  const [a, b] = [part(head), part(tail)];
  return [...a, ...Array<number>(8 - a.length - b.length).fill(0), ...b];
}
