import { type Family, parseIp } from "../../lib/ip.ts";
import { connect, makeNamespace } from "../lab/namespaces.ts";
import { Loader, type Variant } from "./loader.ts";
import { answerForAll, forwards, linkOf, talkative } from "./pod_network.ts";
import { type End, Prober } from "./prober.ts";
import { HostWire, InterfaceWire } from "./sockets.ts";

/** Interfaces of the router, as the recorded cases name them, one of a workload that nobody knows, and two others. */
export const interfaceNames = [
  ...["cali1", "cali1a", "cali1b", "cali2c", "cali0123456789a", "caliother"],
  ...["eth0", "srv0", "tunl0", "vxlan.calico", "eth1"],
];

/** A router to load chains into, with a place behind each interface that answers for every address. */
export interface RenderNetwork extends AsyncDisposable {
  loader: Loader;
  prober: Prober;
  /** By interface name; `host` is the router's own stack. */
  ends: Map<string, End>;
}

/** Address of the router (`side` 1) or of the place (2) at an interface. */
export const addressAt = (name: string, family: Family, side: 1 | 2): string => {
  const i = interfaceNames.indexOf(name) + 1;
  return family === 4 ? `10.77.${i}.${side}` : `fd77:${i}::${side}`;
};

/**
 * Builds a network. Packets from eth0 to addresses that are nowhere go out at srv0, and back: so any address can be a
 * source or destination.
 */
export async function makeRenderNetwork(variant: Variant): Promise<RenderNetwork> {
  await using made = new AsyncDisposableStack();
  const router = made.use(await makeNamespace("h10-rnd"));
  const lax = ["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"];
  await router.runOk("sysctl", ["-qw", ...forwards, ...talkative, ...lax]);
  const ends = new Map<string, End>();
  for (const name of interfaceNames) {
    const space = made.use(await makeNamespace("h10-end"));
    const cidrs = (side: 1 | 2) => [`${addressAt(name, 4, side)}/24`, `${addressAt(name, 6, side)}/64`];
    await connect({ in: router, name, addresses: cidrs(1) }, { in: space, name: "eth0", addresses: cidrs(2) });
    const [inner, outer] = [await linkOf(router, name), await linkOf(space, "eth0")];
    await answerForAll(space, inner.mac, { 4: addressAt(name, 4, 1), 6: addressAt(name, 6, 1) });
    for (const family of [4, 6] as const) {
      await router.ip(`neigh replace ${addressAt(name, family, 2)} lladdr ${outer.mac} dev ${name} nud permanent`);
    }
    const home = { 4: parseIp(addressAt(name, 4, 2)), 6: parseIp(addressAt(name, 6, 2)) };
    ends.set(name, { name, wire: made.use(new InterfaceWire(space.path, outer, inner.mac)), home });
  }
  for (const family of [4, 6] as const) {
    const v = family === 6 ? "-6 " : "";
    await router.ip(`${v}rule add pref 5 lookup main`);
    for (const [table, iif, out] of [[101, "eth0", "srv0"], [102, "srv0", "eth0"]] as const) {
      await router.ip(`${v}rule add pref ${table} iif ${iif} lookup ${table}`);
      await router.ip(`${v}route add default via ${addressAt(out, family, 2)} dev ${out} table ${table}`);
    }
  }
  const home = { 4: parseIp(addressAt("eth0", 4, 1)), 6: parseIp(addressAt("eth0", 6, 1)) };
  ends.set("host", { name: "host", wire: made.use(new HostWire(router.path)), home });
  const all = made.move();
  const loader = new Loader(router, variant), prober = new Prober([...ends.values()]);
  return { loader, prober, ends, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
