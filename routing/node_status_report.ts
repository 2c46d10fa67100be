import { decodeResource, isUndecodable } from "../datastore/codec.ts";
import { kindPrefix } from "../datastore/keys.ts";
import type { CalicoNodeStatus } from "../datastore/kinds/calico_node_status.ts";
import type { Changes, Mirror } from "../datastore/mirror.ts";
import type { KeyValue } from "../datastore/store.ts";
import type { Resources } from "../datastore/resources.ts";
import { type Clock, rfc3339 } from "../lib/clock.ts";
import { sameJson, writeJson } from "../lib/json64.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { Wake } from "../lib/wake.ts";
import type { Bird } from "./bird.ts";
import { type BirdView, nodeStatus } from "./node_status.ts";

/** What the report works with. */
export interface NodeStatusOptions {
  mirror: Pick<Mirror, "changes">;
  resources: Pick<Resources, "get" | "update">;
  /** This node's name. */
  node: string;
  /** Whom to ask; undefined = this node runs no BIRD, which is told as "not ready". */
  bird: Pick<Bird, "state" | "sessions" | "routes"> | undefined;
  clock: Clock;
  log: Logger;
  signal: AbortSignal;
}

/** A question to this node, when it was last read, and when it is to be answered. */
interface Question {
  resource: CalicoNodeStatus;
  /** Its spec as text: our own answers change nothing of it. */
  asked: string;
  dueMs: number;
}

/** After an answer that could not be written. */
const againMs = 10_000;
/** Times that an answer is written anew because somebody else was faster. */
const tries = 3;

/**
 * Answers the CalicoNodeStatus objects that ask for this node, until the signal: when they are made or changed, and every
 * `updatePeriodSeconds` (0 = never again). Written only when something other than the time differs. BIRD is asked once for
 * all that are due, and not at all while nobody asks.
 * DIFFERS: over etcd a Calico node does not notice a changed spec, because it looks at the generation alone.
 * Source: Calico's node/pkg/status/reporter.go.
 */
export async function reportNodeStatus(options: NodeStatusOptions): Promise<void> {
  const report = new NodeStatusReport(options);
  await Promise.all([report.follow(), report.run()]);
}

class NodeStatusReport {
  readonly #options: NodeStatusOptions;
  readonly #questions = new Map<string, Question>();
  readonly #wake: Wake;

  constructor(options: NodeStatusOptions) {
    this.#options = options;
    this.#wake = new Wake(options.clock);
  }

  async follow(): Promise<void> {
    const { mirror, signal } = this.#options;
    for await (const changes of mirror.changes(signal)) this.#take(changes);
  }

  async run(): Promise<void> {
    const { clock, signal } = this.#options;
    while (!signal.aborted) {
      const next = Math.min(...[...this.#questions.values()].map((q) => q.dueMs));
      await this.#wake.sleep(Math.max(0, Math.min(next - clock.monotonicMs(), 0x7fffffff)), signal);
      const now = clock.monotonicMs();
      const due = [...this.#questions.values()].filter((q) => q.dueMs <= now);
      if (!signal.aborted && due.length > 0) await this.#answerAll(due);
    }
  }

  #take({ set, deleted }: Pick<Changes, "set" | "deleted">): void {
    const prefix = kindPrefix("CalicoNodeStatus");
    for (const key of deleted) this.#questions.delete(key);
    for (const kv of set) if (kv.key.startsWith(prefix)) this.#takeOne(kv);
    this.#wake.call();
  }

  #takeOne(kv: KeyValue): void {
    const { node, clock, log } = this.#options;
    const resource = decodeResource(kv);
    if (!resource || isUndecodable(resource)) {
      return log.warn("value not understood, last good one stays", { key: kv.key, why: resource?.why });
    }
    const question = resource as unknown as CalicoNodeStatus;
    if (question.spec.node !== node) return void this.#questions.delete(kv.key);
    if (question.spec.updatePeriodSeconds === undefined) {
      log.warn("node status is not told", { key: kv.key, why: "updatePeriodSeconds is missing" });
      return void this.#questions.delete(kv.key);
    }
    const before = this.#questions.get(kv.key), asked = writeJson(question.spec);
    const dueMs = before?.asked === asked ? before.dueMs : clock.monotonicMs();
    this.#questions.set(kv.key, { resource: question, asked, dueMs });
  }

  async #answerAll(due: readonly Question[]): Promise<void> {
    const { clock, log } = this.#options;
    for (const question of due) {
      const seconds = question.resource.spec.updatePeriodSeconds ?? 0;
      question.dueMs = seconds > 0 ? clock.monotonicMs() + seconds * 1000 : Infinity;
    }
    try {
      const view = await this.#ask(due.some(({ resource }) => resource.spec.classes?.includes("Routes")));
      for (const question of due) await this.#answer(question.resource, view);
    } catch (error) {
      if (!isProblem(error)) throw error;
      log.warn("node status could not be told", { why: messageOf(error) });
      for (const question of due) question.dueMs = Math.min(question.dueMs, clock.monotonicMs() + againMs);
    }
  }

  async #ask(routes: boolean | undefined): Promise<BirdView> {
    const { bird } = this.#options;
    const state = await bird?.state();
    if (!bird || !state) return { state: undefined, sessions: [], routes: [] };
    return { state, sessions: await bird.sessions(), routes: routes ? await bird.routes() : [] };
  }

  async #answer(question: CalicoNodeStatus, view: BirdView): Promise<void> {
    const { resources, clock, node } = this.#options;
    for (let resource = question, left = tries;; left--) {
      const before = resource.status!;
      const status = { ...before, ...nodeStatus(resource.spec.classes, view) };
      if (sameJson(before, status)) return;
      status.lastUpdated = rfc3339(clock.now());
      try {
        return void await resources.update({ ...resource, status });
      } catch (error) {
        if (isProblem(error, "not-found")) return; // nobody asks any more
        if (!isProblem(error, "conflict") || left <= 1) throw error;
      }
      const newer = await this.#newest(resource.metadata.name);
      if (!newer || newer.spec.node !== node) return;
      resource = newer;
    }
  }

  async #newest(name: string): Promise<CalicoNodeStatus | undefined> {
    try {
      return await this.#options.resources.get<CalicoNodeStatus>("CalicoNodeStatus", name);
    } catch (error) {
      if (isProblem(error, "not-found")) return undefined;
      throw error;
    }
  }
}
