import { type Action, type Chain, goTo, type NetfilterSettings, type NetRule, rule as line } from "./model.ts";
import { anyInterface, chainName, chainPrefixes } from "./names.ts";

/** Chains that find a workload's chain by its interface; an interface that nobody knows is refused. */
export function workloadDispatch(interfaces: Iterable<string>, settings: NetfilterSettings): Chain[] {
  const unknown = [line([], { is: settings.deny }, "Unknown interface")];
  const { to, from } = chainPrefixes.workload;
  const names = [...interfaces];
  return [
    ...dispatch("cali-from-wl-dispatch", "in", from, names, unknown),
    ...dispatch("cali-to-wl-dispatch", "out", to, names, unknown),
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
    ...dispatch("cali-from-host-endpoint", "in", host.from, interfaces, end(host.from)),
    ...hostTo(input, []),
    ...dispatch("cali-from-hep-forward", "in", hostForward.from, interfaces, end(hostForward.from)),
    ...dispatch("cali-to-hep-forward", "out", hostForward.to, interfaces, end(hostForward.to)),
  ];
}

/** Raw: untracked policies, both ways. Named interfaces only. */
export function hostRawDispatch(interfaces: string[]): Chain[] {
  const { to, from } = chainPrefixes.host;
  return [
    ...dispatch("cali-from-host-endpoint", "in", from, interfaces, []),
    ...dispatch("cali-to-host-endpoint", "out", to, interfaces, []),
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
  return [...dispatch("cali-from-host-endpoint", "in", prefix, from.interfaces, end), ...hostTo(to, skip)];
}

/** @param first comes before the goto to a wildcard endpoint's chain. */
function hostTo(input: HostDispatch, first: NetRule[]): Chain[] {
  const prefix = chainPrefixes.host.to;
  const end = input.wildcard ? [...first, line([], goTo(chainName(prefix, anyInterface)))] : [];
  return dispatch("cali-to-host-endpoint", "out", prefix, input.interfaces, end);
}

/**
 * A tree of one level below the names' common beginning, so that a packet is held against few names of many.
 * Children come before the root. Source: Calico's felix/rules/dispatch.go.
 */
function dispatch(
  root: string,
  direction: "in" | "out",
  prefix: string,
  interfaces: string[],
  end: NetRule[],
): Chain[] {
  const names = [...new Set(interfaces)].sort();
  const common = commonBeginning(names);
  const toEndpoint = (name: string) => found(direction, name, goTo(chainName(prefix, name)));
  const children: Chain[] = [];
  const rules: NetRule[] = [];
  for (const [bucket, members] of Map.groupBy(names, (n) => n.slice(0, common.length + 1))) {
    if (members.length === 1) {
      rules.push(toEndpoint(members[0]!));
      continue;
    }
    const child = `${root}-${bucket.slice(common.length)}`;
    children.push({ name: child, rules: [...members.map(toEndpoint), ...end] });
    rules.push(found(direction, `${bucket}+`, goTo(child)));
  }
  return [...children, { name: root, rules: [...rules, ...end] }];
}

const found = (direction: "in" | "out", name: string, action: Action): NetRule =>
  line([{ is: "interface", direction, name }], action);

function commonBeginning(names: string[]): string {
  const [first = "", last = ""] = [names[0], names.at(-1)];
  let n = 0;
  while (n < first.length && first[n] === last[n]) n++;
  return first.slice(0, n);
}
