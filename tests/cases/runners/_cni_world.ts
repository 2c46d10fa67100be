import { formatIp, ipAt } from "../../../lib/ip.ts";
import { isObject, type Json, parseJson } from "../../../lib/json64.ts";
import { attributeOf, decodeBlock } from "../../../ipam/block.ts";
import type { AgentWorld } from "../../lab/agent_world.ts";
import type { Namespace } from "../../lab/namespaces.ts";

/** What stands in etcd and in the kernel after a run, in the form of the recorded answers. */
export async function keysOf(world: AgentWorld): Promise<Record<string, Json>> {
  const shown = ["/calico/ipam/v2/", `${resources}workloadendpoints/`, `${resources}profiles/`];
  const all = [...await world.etcd.dump("/calico/")].filter(([key]) => shown.some((prefix) => key.startsWith(prefix)));
  return Object.fromEntries(all.map(([key, value]) => [key, shownAs(key, value)]));
}

const resources = "/calico/resources/v3/projectcalico.org/";

function shownAs(key: string, value: string): Json {
  if (!key.startsWith("/calico/ipam/v2/assignment/")) return parseJson(value);
  const block = decodeBlock(value, key);
  const used: Record<string, Json> = {};
  for (let ordinal = 0; ordinal < block.allocations.length; ordinal++) {
    const attribute = attributeOf(block, ordinal);
    if (attribute) used[formatIp(ipAt(block.cidr, ordinal))] = { ...attribute };
  }
  const { cidr } = parseJson(value) as { cidr: string };
  return { affinity: block.affinity, cidr, used };
}

/**
 * Links, routes and pods. The recording had no agent beside the plugin: what only an agent does is left out (metric and
 * protocol of routes), or is in the expectation too (expectedRoutes()).
 * @param sysctls names to read, per link or pod, as the expectation lists them.
 */
export async function networkOf(
  world: AgentWorld,
  pods: { pod1: Namespace; pod2: Namespace },
  expect: Record<string, Json>,
): Promise<Record<string, Json>> {
  const links = await world.host.ipJson<{ ifname: string; address: string; mtu: number }[]>("link show");
  const hostLinks: Record<string, Json> = {};
  for (const { ifname, address, mtu } of links.filter((l) => /^(cali|tap)/.test(l.ifname))) {
    const expected = isObject(expect.hostLinks) ? expect.hostLinks[ifname] : undefined;
    const names = isObject(expected) && isObject(expected.sysctls) ? Object.keys(expected.sysctls) : [];
    hostLinks[ifname] = { mac: address, mtu, sysctls: await sysctls(world.host, names, ifname) };
  }
  const shown: Record<string, Json> = { hostLinks, hostRoutes: await hostRoutes(world.host) };
  for (const name of ["pod1", "pod2"] as const) {
    const expected = isObject(expect[name]) ? expect[name] as Record<string, Json> : {};
    const pod = await podOf(pods[name], isObject(expected.sysctls) ? Object.keys(expected.sysctls) : []);
    if (pod) shown[name] = pod;
  }
  return shown;
}

async function hostRoutes(host: Namespace): Promise<string[]> {
  const lines = [...await lines4(host, "route"), ...await lines4(host, "-6 route")];
  return lines.filter((line) => / dev (cali|tap)/.test(line) && !line.startsWith("fe80"))
    .map((line) => line.includes(":") ? line : line.replace(/ metric \d+/, "")).map((line) =>
      line.replace(/ proto 80/, "")
    );
}

const lines4 = async (space: Namespace, words: string): Promise<string[]> =>
  (await space.ip(words)).split("\n").map((line) => line.trim()).filter((line) => line !== "");

async function podOf(pod: Namespace, names: string[]): Promise<Record<string, Json> | undefined> {
  type Link = {
    ifname: string;
    address: string;
    mtu: number;
    addr_info: { family: string; local: string; prefixlen: number; scope: string }[];
  };
  const [link] = (await pod.ipJson<Link[]>("addr show")).filter((l) => l.ifname !== "lo");
  if (!link) return undefined;
  const of = (family: string) =>
    link.addr_info.filter((a) => a.family === family && a.scope === "global").map((a) => `${a.local}/${a.prefixlen}`);
  const routes6 = (await lines4(pod, "-6 route")).filter((line) => !line.startsWith("fe80::/64"));
  return {
    addresses4: of("inet"),
    ...(of("inet6").length > 0 ? { addresses6: of("inet6"), routes6 } : {}),
    mac: link.address,
    mtu: link.mtu,
    routes4: await lines4(pod, "route"),
    sysctls: await sysctls(pod, names, ""),
  };
}

async function sysctls(space: Namespace, names: string[], link: string): Promise<Record<string, string>> {
  if (names.length === 0) return {};
  const files = names.map((name) => `/proc/sys/${name.replace("/IF/", `/${link}/`)}`);
  const values = (await space.runOk("cat", files)).trimEnd().split("\n");
  return Object.fromEntries(names.map((name, i) => [name, values[i]!]));
}

/** The expectation's addresses without what `ip` printed behind them, and the routes that only an agent makes. */
export function expectedNetwork(network: Record<string, Json>, keys: Record<string, Json>): Record<string, Json> {
  const out: Record<string, Json> = { ...network, hostRoutes: expectedRoutes(network.hostRoutes as string[], keys) };
  for (const name of ["pod1", "pod2"]) {
    const pod = out[name];
    if (!isObject(pod)) continue;
    const bare = (list: Json | undefined) => (list as string[]).map((text) => text.split(" ")[0]!);
    out[name] = {
      ...pod,
      addresses4: bare(pod.addresses4 ?? []),
      ...(pod.addresses6 ? { addresses6: bare(pod.addresses6) } : {}),
    };
  }
  return out;
}

/** With fixed addresses Calico's plugin makes no route: its agent does, and ours has done it when ADD answers. */
function expectedRoutes(routes: string[], keys: Record<string, Json>): string[] {
  const all = [...routes];
  for (const [key, value] of Object.entries(keys)) {
    if (!key.includes("/workloadendpoints/")) continue;
    const { spec } = value as { spec: { ipNetworks: string[]; interfaceName: string } };
    for (const network of spec.ipNetworks) {
      const [ip] = network.split("/");
      const route = ip!.includes(":")
        ? `${ip} dev ${spec.interfaceName} metric 1024 pref medium`
        : `${ip} dev ${spec.interfaceName} scope link`;
      if (!all.some((line) => line.startsWith(`${ip} dev ${spec.interfaceName} `))) all.push(route);
    }
  }
  return all;
}
