import type { AgentWorld } from "../lab/agent_world.ts";
import { wait } from "../lab/wait.ts";

/** What stands in etcd, in the kernel and on disk of a world; read without the project's own code for these things. */
export interface State {
  /** Address → handle. */
  addresses: Map<string, string>;
  handles: string[];
  /** Key's last part → parsed value. */
  endpoints: Map<string, Record<string, never> & { spec: EndpointSpec }>;
  links: string[];
  /** Host routes to pods: address → interface. */
  routes: Map<string, string>;
  journal: string[];
}

interface EndpointSpec {
  containerID: string;
  ipNetworks: string[];
  interfaceName: string;
  profiles: string[];
  mac: string;
}

/** Reads everything. */
export async function stateOf(world: AgentWorld): Promise<State> {
  const keys = await world.etcd.dump("/calico/");
  const addresses = new Map<string, string>(), handles: string[] = [];
  const endpoints: State["endpoints"] = new Map();
  for (const [key, value] of keys) {
    if (key.startsWith("/calico/ipam/v2/handle/")) handles.push(key.split("/").pop()!);
    if (key.includes("/workloadendpoints/")) endpoints.set(key.split("/").pop()!, JSON.parse(value));
    if (!key.startsWith("/calico/ipam/v2/assignment/")) continue;
    const block = JSON.parse(value.replace(/"sequenceNumber":\d+/, '"sequenceNumber":0')) as {
      cidr: string;
      allocations: (number | null)[];
      attributes: { handle_id?: string }[];
    };
    block.allocations.forEach((a, ordinal) => {
      if (a !== null) addresses.set(nth(block.cidr, ordinal), block.attributes[a]!.handle_id ?? "");
    });
  }
  const links = (await world.host.ipJson<{ ifname: string }[]>("link show")).map((l) => l.ifname);
  const routes = await world.host.ipJson<{ dst: string; dev?: string }[]>("route show");
  return {
    ...{ addresses, handles, endpoints },
    links: links.filter((name) => name.startsWith("cali")),
    // A route of a block without a device drops what no pod has.
    routes: new Map(routes.flatMap((r) => (r.dev?.startsWith("cali") ? [[r.dst, r.dev]] : []))),
    journal: filesIn(world.journalDir),
  };
}

/** "10.0.0.4" of ("10.0.0.0/28", 4); IPv6 blocks are named by CIDR and number. */
function nth(cidr: string, ordinal: number): string {
  if (cidr.includes(":")) return `${cidr}#${ordinal}`;
  const bytes = cidr.split("/")[0]!.split(".").map(Number);
  const n = bytes.reduce((sum, b) => sum * 256 + b, 0) + ordinal;
  return [24, 16, 8, 0].map((shift) => Math.floor(n / 2 ** shift) % 256).join(".");
}

function filesIn(dir: string): string[] {
  try {
    return [...Deno.readDirSync(dir)].map((f) => f.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Sentences about what is left or does not fit together; empty = endpoints, addresses, links and routes agree. */
export function disagreements(state: State, expectedEndpoints: number): string[] {
  const found: string[] = [];
  const say = (ok: boolean, text: string) => {
    if (!ok) found.push(text);
  };
  say(state.endpoints.size === expectedEndpoints, `${state.endpoints.size} endpoints, expected ${expectedEndpoints}`);
  const used = new Set<string>();
  for (const [name, { spec }] of state.endpoints) {
    for (const network of spec.ipNetworks.filter((n) => !n.includes(":"))) {
      const ip = network.split("/")[0]!;
      say(!used.has(ip), `${ip} belongs to two endpoints`);
      used.add(ip);
      const handle = state.addresses.get(ip) ?? "";
      say(handle.endsWith(`.${spec.containerID}`), `${name} has ${ip}, which "${handle}" holds`);
      say(state.handles.includes(handle), `handle ${handle} is missing`);
      say(state.routes.get(ip) === spec.interfaceName, `route to ${ip}: ${state.routes.get(ip)}`);
    }
    say(state.links.includes(spec.interfaceName), `${spec.interfaceName} of ${name} is missing`);
  }
  for (const [ip, handle] of state.addresses) {
    if (!ip.includes("#")) say(used.has(ip), `${ip} is held by ${handle} without an endpoint`);
  }
  say(state.links.length === state.endpoints.size, `links ${state.links.join(" ")}`);
  say(state.routes.size === used.size, `routes to ${[...state.routes.keys()].join(" ")}`);
  const holders = new Set(state.addresses.values());
  for (const handle of state.handles) say(holders.has(handle), `handle ${handle} holds nothing`);
  return found;
}

/** Waits until all agrees and no delete is pending. */
export async function settled(world: AgentWorld, expectedEndpoints: number, deadlineMs = 10_000): Promise<State> {
  let last: string[] = [];
  return await wait(`${expectedEndpoints} endpoints and nothing else`, async () => {
    const state = await stateOf(world);
    last = [...disagreements(state, expectedEndpoints), ...state.journal.map((file) => `journal has ${file}`)];
    return last.length === 0 ? state : undefined;
  }, { deadlineMs, everyMs: 100 }).catch((error) => {
    throw new Error(`${error.message}:\n${last.join("\n")}\n${world.log().split("\n").slice(-8).join("\n")}`);
  });
}
