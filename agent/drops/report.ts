import type { Direction } from "../desired_policy.ts";
import type { DropReason } from "../netfilter/drop_logs.ts";

/** Packets that this node dropped, equal but for their source port, within a moment. */
export interface Drop {
  is: "drop";
  /** RFC 3339 with milliseconds. */
  time: string;
  node: string;
  direction: Direction;
  /** Who decided: as `ctl why` tells it, or another rule of ours in its own words. */
  decider: DropReason["decider"];
  hook: string;
  /** Interfaces; undefined where there is none. */
  in?: string;
  out?: string;
  source: string;
  destination: string;
  /** IP protocol number. */
  protocol: number;
  /** 0 where the protocol has none. */
  sourcePort: number;
  destinationPort: number;
  icmp?: { type: number; code: number };
  /** TCP's flags. */
  flags: string[];
  packets: number;
}

/** What a watcher is told, one JSON object a line. */
export type DropReport =
  /** From here on drops are seen. */
  | { is: "watching"; node: string }
  | Drop
  /** Dropped and not told one by one: more came than a watcher can read. */
  | { is: "left out"; packets: number }
  | { is: "end"; why: string };
