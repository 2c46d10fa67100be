import { formatCidr } from "../lib/ip.ts";
import { readIfThere } from "../lib/durable_file.ts";
import { passagePrefix } from "../kernel/rtnetlink/bandwidth.ts";
import { deleteLink, type Link, listLinks } from "../kernel/rtnetlink/link.ts";
import { kind, listRoutes, removeRoute, type Route, table } from "../kernel/rtnetlink/route.ts";
import { listRules, removeRule, type Rule } from "../kernel/rtnetlink/rule.ts";
import { E, isErrno, type RtSocket } from "../kernel/rtnetlink/socket.ts";

/** What of ours is in the kernel. */
export interface Leftovers {
  /** Pods' host ends, what their packets pass through, and tunnels. Routes over them go with them. */
  links: Link[];
  routes: Route[];
  /** They lead into WireGuard's tables. */
  rules: Rule[];
}

/** Calico's names of tunnel devices, which are ours alone. */
const tunnels = ["vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali"];
/** Calico's route protocol number, and BIRD's. */
const protocol = { calico: 80, bird: 12 };

/**
 * Finds what an agent leaves in the kernel when it is stopped, which is everything: pods go on working without it.
 * @param options.prefix of pods' interfaces. @param options.bird true when routes of BIRD are ours: no other BIRD runs.
 */
export function findLeftovers(socket: RtSocket, options: { prefix: string; bird: boolean }): Leftovers {
  const all = [...listLinks(socket).values()];
  const links = all.filter((link) =>
    tunnels.includes(link.name) || (link.kind === "veth" && link.name.startsWith(options.prefix)) ||
    (link.kind === "ifb" && link.name.startsWith(passagePrefix))
  );
  const going = new Set(links.map((l) => l.index));
  const ours = options.bird ? [protocol.calico, protocol.bird] : [protocol.calico];
  const rules = ([4, 6] as const).flatMap((family) => listRules(socket, family))
    .filter((r) => r.protocol === protocol.calico && r.invert);
  const thrown = rules.flatMap(({ family, table }) => listRoutes(socket, { family, table }))
    .filter((r) => r.protocol === protocol.calico && [kind.throw, kind.prohibit].some((k) => k === r.kind));
  const routes = ([4, 6] as const)
    .flatMap((family) => ours.flatMap((p) => listRoutes(socket, { family, table: table.main, protocol: p })))
    .filter((r) => ours.includes(r.protocol) && (r.index === undefined || !going.has(r.index)));
  return { links, routes: [...routes, ...thrown], rules };
}

/** Removes them; answers what could not be removed and why. What is gone meanwhile is fine. */
export function removeLeftovers(socket: RtSocket, { links, routes, rules }: Leftovers): string[] {
  const steps = [
    ...rules.map((r) => ({ what: `rule ${r.priority}`, request: removeRule(r) })),
    ...routes.map((r) => ({ what: `route ${formatCidr(r.dst)}`, request: removeRoute(r) })),
    ...links.map((l) => ({ what: `interface ${l.name}`, request: deleteLink(l.index) })),
  ];
  const failed = socket.batch(steps.map((s) => s.request)).map(({ error }, i) => ({ error, what: steps[i]!.what }));
  return failed.filter(({ error }) => error && !isErrno(error, E.NODEV, E.SRCH, E.NOENT))
    .map(({ what, error }) => `${what}: ${error!.message}`);
}

/** What findLeftovers() found, for people. */
export const tellLeftovers = ({ links, routes, rules }: Leftovers): string[] => [
  ...rules.map((r) => `rule ${r.priority} to table ${r.table}`),
  ...links.map((l) => `interface ${l.name}`),
  ...routes.map((r) => `route ${formatCidr(r.dst)}`),
];

/** True when a process called bird runs that does not serve `control` (our BIRD's socket). */
export async function foreignBirdRuns(control: string): Promise<boolean> {
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const words = (await readCommandLine(name)).split("\0");
    if (/(^|\/)bird$/.test(words[0] ?? "") && !words.includes(control)) return true;
  }
  return false;
}

/** A process may end while it is looked at. */
async function readCommandLine(pid: string): Promise<string> {
  try {
    return await readIfThere(`/proc/${pid}/cmdline`) ?? "";
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ESRCH") return "";
    throw error;
  }
}
