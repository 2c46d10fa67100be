import type { Variant } from "../packets/loader.ts";
import { Flood } from "./flood.ts";
import { floodFlows } from "./flood_policy.ts";
import { FloodWorld, hostAddress, hostPort } from "./flood_world.ts";
import { type Course, type Finding, judge } from "./judge.ts";

/** Something that is done to a host while packets flood through it, and what may change by it. */
export interface Transition {
  name: string;
  act(world: FloodWorld): Promise<void>;
  /** Flows that pass from some moment on, and flows that are denied from some moment on; all others must stay as they are. */
  opens?: string[];
  closes?: string[];
  /** Flows whose other end goes and another one comes. */
  interrupts?: string[];
  /**
   * Flows that are allowed before and after, by a set and rules that change at once. There is no order of the two in which
   * nothing is lost and nothing passes that both deny: these are denied for a moment.
   */
  pauses?: string[];
  /** Somebody does harm to what we wrote: flows may go wrong until it is repaired, but not for longer than the bound. */
  harm?: true;
  /** Flows of harm that must not go wrong all the same. */
  steady?: "denied";
  /** Those that open do it before act() is over, and no packet is lost after it. */
  openAtEnd?: true;
}

/** What a transition came to. */
export interface Outcome {
  name: string;
  packets: number;
  actMs: number;
  leaked: number;
  lost: number;
  /** Of flows that change, how long after act() ended the last one had changed; of harm, how long anything went wrong. */
  afterMs: number;
  wrong: string[];
}

/** Until a changed flow is as it should be, an idle machine needs 0.1 s; after harm 0.4 s; after a start of the agent 1 s. */
const boundMs = 10_000;
/** Ticks in which a flow must do the same to have settled. */
const settledTicks = 30;

/** A world with a flood in it that goes through transitions. */
export class Stage implements AsyncDisposable {
  readonly #passes = new Map<string, boolean>();

  private constructor(readonly world: FloodWorld, readonly flood: Flood, private readonly stack: AsyncDisposableStack) {
    for (const { name } of flood.flows) this.#passes.set(name, name.startsWith("+"));
  }

  /** @param env of the agent, beside the variant. @throws Error that names the flows that do not what policy says before anything has happened. */
  static async set(prefix: string, variant: Variant, env: Record<string, string> = {}): Promise<Stage> {
    const stack = new AsyncDisposableStack();
    try {
      const world = stack.use(await FloodWorld.make(prefix, variant, env));
      const { a, b, p } = Object.fromEntries(world.addresses) as Record<string, string[]>;
      const flows = floodFlows({ a: a!, b: b!, p: p!, host: hostAddress, hostPort });
      const canaries = ["+a>b web", "+outside>b web", "+host>b any", "+outside>p web"];
      const flood = stack.use(new Flood({ flows, wires: world.wires, canaries }));
      const stage = new Stage(world, flood, stack);
      await stage.#settle();
      const wrong = flows.filter(({ name }) => !stage.#isAsExpected(name)).map(({ name }) => name);
      if (wrong.length > 0) throw new Error(`before any transition these are not as policy says: ${wrong.join(", ")}`);
      return stage;
    } catch (error) {
      await stack.disposeAsync();
      throw error;
    }
  }

  /** Acts, waits until the flows are as they should be, and judges what every packet did meanwhile. */
  async run(transition: Transition): Promise<Outcome> {
    const { flood, world } = this;
    const { opens = [], closes = [] } = transition;
    await flood.forTicks(10);
    const first = flood.tick + 1;
    await transition.act(world);
    const actEnd = flood.tick;
    await world.caughtUp();
    for (const name of opens) this.#expect(name, true);
    for (const name of closes) this.#expect(name, false);
    await this.#settle();
    // What no flow shows may be written late on a busy machine: it belongs to this transition.
    await world.caughtUp();
    await flood.forTicks(15);
    return this.#judge(transition, first, actEnd, flood.tick - 10);
  }

  #expect(name: string, passes: boolean): void {
    if (!this.#passes.has(name)) throw new Error(`there is no flow ${name}`);
    if (this.#passes.get(name) === passes) throw new Error(`flow ${name} is so already`);
    this.#passes.set(name, passes);
  }

  #isAsExpected = (name: string): boolean => this.flood.is(name, this.#passes.get(name)!, settledTicks);

  /** Waits until every flow does what is expected, or the bound is over: the judge tells which did not. */
  async #settle(): Promise<void> {
    const end = performance.now() + boundMs;
    await this.flood.forTicks(settledTicks + 10);
    while (performance.now() < end && !this.flood.flows.every(({ name }) => this.#isAsExpected(name))) {
      await this.flood.forTicks(10);
    }
  }

  #judge(transition: Transition, first: number, actEnd: number, last: number): Outcome {
    const { flood } = this;
    const { name, opens = [], closes = [], interrupts = [], pauses = [], harm, steady, openAtEnd } = transition;
    const sentAt = Array.from({ length: last - first + 1 }, (_, i) => flood.sentAt(first + i));
    const actMs = Math.max(0, flood.sentAt(actEnd) - sentAt[0]!);
    const outcome: Outcome = { name, packets: 0, actMs, leaked: 0, lost: 0, afterMs: 0, wrong: [] };
    for (const { name: flow } of flood.flows) {
      const before = this.#passes.get(flow)!;
      const course: Course = opens.includes(flow)
        ? "opens"
        : closes.includes(flow)
        ? "closes"
        : interrupts.includes(flow)
        ? "interrupted"
        : pauses.includes(flow)
        ? "disturbed"
        : harm && !(steady === "denied" && !before)
        ? "disturbed"
        : before
        ? "passes"
        : "denied";
      const finding = judge({ fates: flood.fates(flow, first, last), sentAt, before }, course, boundMs + actMs);
      if (openAtEnd && course === "opens") {
        const late = countLost(flood.fates(flow, actEnd + 1, last));
        if (late > 0) finding.wrong.push(`${late} packets lost after it was said to be ready`);
      }
      this.#add(outcome, flow, course, finding);
    }
    return outcome;
  }

  #add(outcome: Outcome, flow: string, course: Course, finding: Finding): void {
    outcome.packets += finding.sent;
    outcome.leaked += finding.leaked;
    outcome.lost += finding.lost;
    outcome.wrong.push(...finding.wrong.map((why) => `${flow} (${course}): ${why}`));
    const ms = course === "disturbed" ? finding.wrongMs : Math.max(0, finding.untilMs - outcome.actMs);
    if (course !== "passes" && course !== "denied") outcome.afterMs = Math.max(outcome.afterMs, ms);
  }

  /** Packets that found no room in the flood's own sockets: they would count as lost. */
  unread(): number {
    return Object.values(this.world.wires).reduce((n, w) => n + w.lost(), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }
}

const countLost = (fates: Uint8Array) => fates.reduce((n, f) => n + (f === 1 ? 1 : 0), 0);

/** A line of the table of outcomes. */
export function outcomeLine({ name, packets, actMs, leaked, lost, afterMs, wrong }: Outcome): string {
  const cell = (n: number, width: number) => n.toFixed(0).padStart(width);
  const numbers = [cell(packets, 8), cell(leaked, 7), cell(lost, 7), cell(actMs, 7), cell(afterMs, 7)].join("");
  return `${numbers}  ${name}${wrong.length > 0 ? "  WRONG" : ""}`;
}

/** Head of that table. */
export const outcomeHead = " packets passed   lost  act ms  +ms    transition";
