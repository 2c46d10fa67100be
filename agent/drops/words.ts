import { tryParseIp } from "../../lib/ip.ts";
import type { Drop } from "./report.ts";
import { dropStage, holderName } from "../why/drop.ts";
import { explain, type Explanation } from "../why/explanation.ts";
import type { Stage } from "../why/node_walk.ts";
import type { World } from "../why/world.ts";
import { deciderWords, reasons, stageName, trafficName } from "../why/words.ts";

/** A drop with what the datastore knows of it. */
export interface ToldDrop extends Drop {
  /** Who has the addresses. */
  from?: string;
  to?: string;
  /** Whose policy it was, and which of its chains. */
  endpoint?: string;
  at?: Stage["at"];
  /** As in `why`. */
  because: string[];
  passedOver: Explanation["passedOver"];
  detail: string;
}

/** Adds names and reasons. @param world undefined = the datastore is not to be had. */
export function toldDrop(drop: Drop, world: World | undefined): ToldDrop {
  const { decider } = drop;
  const detail = decider.by === "another rule" ? decider.words : deciderWords(decider);
  const src = tryParseIp(drop.source), dst = tryParseIp(drop.destination);
  if (!world || !src || !dst) return { ...drop, because: [], passedOver: [], detail };
  const names = { from: holderName(world, drop.node, src), to: holderName(world, drop.node, dst) };
  const stage = stageIn(world, drop);
  const { because, passedOver } = stage ? explain(world, stage) : { because: [], passedOver: [] };
  return { ...drop, ...names, endpoint: stage?.endpoint, at: stage?.at, because, passedOver, detail };
}

function stageIn(world: World, drop: Drop): Stage | undefined {
  const { decider, protocol, icmp } = drop;
  if (decider.by === "another rule") return undefined;
  const [src, dst] = [tryParseIp(drop.source)!, tryParseIp(drop.destination)!];
  const packet = { src, dst, protocol, icmp, srcPort: drop.sourcePort, dstPort: drop.destinationPort };
  return dropStage(world, { ...drop, decider, packet });
}

/** A drop for people: who and whom, then the reasons in the words of `why`. */
export function dropText(drop: Drop, world: World | undefined): string {
  const told = toldDrop(drop, world), stage = world && stageIn(world, drop);
  const end = (name: string | undefined, address: string) => (name ? `${name} (${address})` : address);
  const traffic = [trafficName({ ...drop, dstPort: drop.destinationPort }), drop.flags.join(" ")].filter(Boolean).join(
    " ",
  );
  const many = drop.packets > 1 ? `, ${drop.packets} packets` : "";
  const where = stage ? stageName(stage) : `${drop.direction}${way(drop)}`;
  const ends = `${end(told.from, drop.source)} -> ${end(told.to, drop.destination)}`;
  const head = `${drop.time.slice(11, 23)} ${ends} ${traffic}: DENIED on ${drop.node}, ${where}${many}`;
  const why = stage && world ? reasons(stage, explain(world, stage)) : [told.detail];
  return [head, ...why.map((line) => `   ${line}`)].join("\n") + "\n";
}

const way = ({ in: into, out }: Drop): string => `${into ? ` from ${into}` : ""}${out ? ` to ${out}` : ""}`;
