import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/log.ts";
import { messageOf } from "../../lib/problem.ts";
import { deleteFlows, type Flow, listFlows } from "../../kernel/netfilter/conntrack.ts";
import { NETLINK_NETFILTER } from "../../kernel/netfilter/set_messages.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import type { JudgedFlow } from "../calc/flow_judge.ts";
import type { Filter } from "./filter.ts";

/** What it works with. */
export interface DeniedFlowsOptions {
  filter: Pick<Filter, "written">;
  clock: Clock;
  log: Logger;
}

/** Between two looks at all tracked flows: each costs the kernel and us some microseconds a flow. */
const pauseMs = 500;
/** After a look that failed. */
const againMs = 10_000;
/** Flows that are judged before others on the event loop get their turn. */
const atOnce = 1_000;

/**
 * Ends tracked flows that policy would not let begin now: their next packet is asked about anew, and denied. Calico lets
 * what once was allowed go on for ever; so do we unless `TortieCutDeniedFlows` is set.
 */
export class DeniedFlows implements AsyncDisposable {
  readonly #options: DeniedFlowsOptions;
  readonly #stop = new AbortController();
  readonly #stopped = Promise.withResolvers<void>();
  #socket: RtSocket | undefined;
  #asked: ((flow: JudgedFlow) => boolean) | undefined;
  #work: Promise<void> | undefined;

  constructor(options: DeniedFlowsOptions) {
    this.#options = options;
  }

  /** Ends what `isDenied`, once the rules that were handed to the filter are written. Calls that come together are one. */
  check(isDenied: (flow: JudgedFlow) => boolean): void {
    this.#asked = isDenied;
    this.#work ??= this.#run();
  }

  /** Waits for what was begun. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("flows are not looked at any more"));
    this.#stopped.resolve();
    await this.#work;
    this.#socket?.[Symbol.dispose]();
  }

  async #run(): Promise<void> {
    const { filter, clock, log } = this.#options;
    const { signal } = this.#stop;
    while (this.#asked && !signal.aborted) {
      let isDenied = this.#asked, waitMs = pauseMs;
      try {
        // Before the new rules are in the kernel, the next packet would only begin the flow again.
        await Promise.race([filter.written(), this.#stopped.promise]);
        if (signal.aborted) return;
        isDenied = this.#asked;
        this.#asked = undefined;
        const ended = await this.#end(isDenied);
        if (ended > 0) log.info("flows that policy denies were ended", { flows: ended });
        else log.debug("no flow that policy denies");
      } catch (error) {
        log.warn("flows that policy denies could not be ended", { why: messageOf(error) });
        this.#asked ??= isDenied; // they would go on for ever
        waitMs = againMs;
      }
      await clock.sleep(waitMs, signal).catch(() => {}); // aborted: the loop's condition ends it
    }
    this.#work = undefined; // in the same turn as the last look at what is asked
  }

  async #end(isDenied: (flow: JudgedFlow) => boolean): Promise<number> {
    this.#socket ??= RtSocket.open(undefined, NETLINK_NETFILTER);
    let ended = 0;
    for (const family of [4, 6] as const) {
      const flows = await listFlows(this.#socket, family);
      for (let i = 0; i < flows.length && !this.#stop.signal.aborted; i += atOnce) {
        if (i > 0) await this.#options.clock.sleep(0);
        const denied = flows.slice(i, i + atOnce).filter((flow) => !flow.expected && isDenied(judged(flow)));
        if (denied.length > 0) ended += deleteFlows(this.#socket, denied);
      }
    }
    return ended;
  }
}

/** Who answers is whom the packets are for, whatever their destination was before it was translated. */
function judged({ original, reply }: Flow): JudgedFlow {
  return {
    src: original.source,
    dst: reply.source,
    protocol: original.protocol,
    srcPort: original.sourcePort,
    dstPort: reply.sourcePort,
    icmp: original.icmp,
  };
}
