import { type Action, type Chain, goTo, type NetfilterSettings, type NetRule, rule as line } from "./model.ts";
import { anyInterface, chainName, chainPrefixes } from "./names.ts";

/** Chains that find a workload's chain by its interface; an interface that nobody knows is refused. */
export function workloadDispatch(interfaces: Iterable<string>, settings: NetfilterSettings): Chain[] {
  const names = [...interfaces];
  return workloadTrees(settings).flatMap((tree) => dispatch(tree, names));
}

/** Where dispatch chains begin, and what they lead to. */
export interface DispatchTree {
  root: string;
  direction: "in" | "out";
  /** What names of endpoints' chains begin with. */
  prefix: string;
  /** What is done with an interface that is not found. */
  end: NetRule[];
}

/** Both directions' trees of workloads. */
export function workloadTrees({ deny }: Pick<NetfilterSettings, "deny">): DispatchTree[] {
  const end = [line([], { is: deny }, "Unknown interface")];
  const { to, from } = chainPrefixes.workload;
  return [
    { root: "cali-from-wl-dispatch", direction: "in", prefix: from, end },
    { root: "cali-to-wl-dispatch", direction: "out", prefix: to, end },
  ];
}

/** Which chains host endpoints need in a table. */
export interface HostDispatch {
  /** Interfaces with a host endpoint of their own. */
  interfaces: string[];
  /** A host endpoint stands for every other interface. */
  wildcard: boolean;
}

/** Filter: own traffic, and what is forwarded. */
export function hostFilterDispatch(input: HostDispatch): Chain[] {
  const { host, hostForward } = chainPrefixes;
  const end = (prefix: string) => (input.wildcard ? [line([], goTo(chainName(prefix, anyInterface)))] : []);
  const { interfaces } = input;
  return [
    ...dispatch(treeOf("cali-from-host-endpoint", "in", host.from, end(host.from)), interfaces),
    ...hostTo(input, []),
    ...dispatch(treeOf("cali-from-hep-forward", "in", hostForward.from, end(hostForward.from)), interfaces),
    ...dispatch(treeOf("cali-to-hep-forward", "out", hostForward.to, end(hostForward.to)), interfaces),
  ];
}

/** Raw: untracked policies, both ways. Named interfaces only. */
export function hostRawDispatch(interfaces: string[]): Chain[] {
  const { to, from } = chainPrefixes.host;
  return [
    ...dispatch(treeOf("cali-from-host-endpoint", "in", from, []), interfaces),
    ...dispatch(treeOf("cali-to-host-endpoint", "out", to, []), interfaces),
  ];
}

/**
 * Mangle: preDNAT policies inwards, normal egress policies outwards. A wildcard endpoint does not see what goes to local
 * workloads; in the filter table the OUTPUT chain has let that pass already.
 */
export function hostMangleDispatch(from: HostDispatch, to: HostDispatch, settings: NetfilterSettings): Chain[] {
  const prefix = chainPrefixes.host.from;
  const end = from.wildcard ? [line([], goTo(chainName(prefix, anyInterface)))] : [];
  const skip = settings.interfacePrefixes.map((p) =>
    line(
      [{ is: "interface", direction: "out", name: `${p}+` }],
      { is: "return" },
      "Skip egress WHEP policy for traffic to local workload",
    )
  );
  return [...dispatch(treeOf("cali-from-host-endpoint", "in", prefix, end), from.interfaces), ...hostTo(to, skip)];
}

/** @param first comes before the goto to a wildcard endpoint's chain. */
function hostTo(input: HostDispatch, first: NetRule[]): Chain[] {
  const prefix = chainPrefixes.host.to;
  const end = input.wildcard ? [...first, line([], goTo(chainName(prefix, anyInterface)))] : [];
  return dispatch(treeOf("cali-to-host-endpoint", "out", prefix, end), input.interfaces);
}

const treeOf = (root: string, direction: "in" | "out", prefix: string, end: NetRule[]): DispatchTree => ({
  root,
  direction,
  prefix,
  end,
});

/**
 * A tree of one level below the names' common beginning, so that a packet is held against few names of many.
 * Children come before the root. Source: Calico's felix/rules/dispatch.go.
 */
function dispatch(tree: DispatchTree, interfaces: string[]): Chain[] {
  const names = [...new Set(interfaces)].sort();
  const common = commonBeginning(names);
  const branches = [...Map.groupBy(names, (n) => bucketOf(n, common))]
    .map(([bucket, members]) => branchOf(tree, common, bucket, members));
  return [...branches.flatMap(({ child }) => child ?? []), rootOf(tree, branches)];
}

/** What the root holds for the names of one bucket: a rule, which leads to a chain of theirs when they are several. */
export interface Branch {
  rule: NetRule;
  child: Chain | undefined;
}

/** Names that agree so far share a branch. */
export const bucketOf = (name: string, common: string): string => name.slice(0, common.length + 1);

/** @param members sorted names of the bucket. */
export function branchOf(tree: DispatchTree, common: string, bucket: string, members: readonly string[]): Branch {
  const { root, direction, prefix, end } = tree;
  const toEndpoint = (name: string) => found(direction, name, goTo(chainName(prefix, name)));
  if (members.length === 1) return { rule: toEndpoint(members[0]!), child: undefined };
  const name = `${root}-${bucket.slice(common.length)}`;
  const child = { name, rules: [...members.map(toEndpoint), ...end] };
  return { rule: found(direction, `${bucket}+`, goTo(name)), child };
}

/** The chain that is asked first. */
export const rootOf = ({ root, end }: DispatchTree, branches: Iterable<Branch>): Chain => ({
  name: root,
  rules: [...Array.from(branches, ({ rule }) => rule), ...end],
});

const found = (direction: "in" | "out", name: string, action: Action): NetRule =>
  line([{ is: "interface", direction, name }], action);

/** @param names sorted. */
export function commonBeginning(names: readonly string[]): string {
  const [first = "", last = ""] = [names[0], names.at(-1)];
  let n = 0;
  while (n < first.length && first[n] === last[n]) n++;
  return first.slice(0, n);
}
