import { runOk } from "../../lib/process.ts";
import type { Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";

/** A route in a router's table: AS path, next hop and communities as text. */
export interface RouterRoute {
  net: string;
  path: number[];
  nextHop: string;
  communities: string[];
}

/** A router of somebody else in a namespace; it ends with the namespace. */
export interface Router {
  /** Addresses of neighbours whose session is established. */
  established(): Promise<string[]>;
  /** The best routes of one family. */
  routes(v: 4 | 6): Promise<RouterRoute[]>;
}

/** Starts FRR's zebra and bgpd with a configuration of bgpd, everything in `dir`. */
export async function startFrr(space: Namespace, dir: string, bgpd: string): Promise<Router> {
  await Deno.mkdir(dir);
  await runOk("chmod", ["777", dir]);
  await Deno.writeTextFile(`${dir}/zebra.conf`, "");
  await Deno.writeTextFile(`${dir}/bgpd.conf`, bgpd);
  const common = ["-d", "-z", `${dir}/zapi`, "--vty_socket", dir];
  const start = (daemon: string) =>
    space.runOk(`/usr/lib/frr/${daemon}`, [...common, "-f", `${dir}/${daemon}.conf`, "-i", `${dir}/${daemon}.pid`]);
  await start("zebra");
  await start("bgpd");
  const show = async <T>(command: string) =>
    JSON.parse(await runOk("vtysh", ["--vty_socket", dir, "-d", "bgpd", "-c", command])) as T;
  return {
    async established() {
      const all = await show<Record<string, { peers?: Record<string, { state: string }> }>>("show bgp summary json");
      // A neighbour is listed under each family that is switched on for it.
      const peers = Object.values(all).flatMap((family) => Object.entries(family.peers ?? {}));
      return [...new Set(peers.filter(([, p]) => p.state === "Established").map(([address]) => address))];
    },
    async routes(v) {
      type Path = {
        bestpath?: boolean;
        path: string;
        nexthops: { ip: string; scope?: string }[];
      };
      const table = await show<{ routes: Record<string, Path[]> }>(`show bgp ipv${v} unicast json`);
      return await Promise.all(
        Object.entries(table.routes).flatMap(([net, paths]) =>
          paths.filter((p) => p.bestpath).map(async (p) => ({
            net,
            path: p.path.split(" ").filter((w) => w !== "").map(Number),
            nextHop: p.nexthops.find((n) => n.scope !== "link-local")!.ip,
            communities: await communitiesOf(show, v, net),
          }))
        ),
      );
    },
  };
}

async function communitiesOf(
  show: <T>(command: string) => Promise<T>,
  v: number,
  net: string,
): Promise<string[]> {
  type One = { bestpath?: { overall?: boolean }; community?: { list: string[] }; largeCommunity?: { list: string[] } };
  const { paths } = await show<{ paths: One[] }>(`show bgp ipv${v} unicast ${net} json`);
  const best = paths.find((p) => p.bestpath?.overall);
  return [...best?.community?.list ?? [], ...best?.largeCommunity?.list ?? []];
}

/** Starts GoBGP with a configuration in TOML; waits until its API answers. */
export async function startGobgp(space: Namespace, dir: string, toml: string): Promise<Router> {
  await Deno.mkdir(dir);
  await Deno.writeTextFile(`${dir}/gobgpd.toml`, toml);
  const api = `unix://${dir}/api`;
  const child = new Deno.Command("nsenter", {
    args: [`--net=${space.path}`, "gobgpd", "-f", `${dir}/gobgpd.toml`, "-t", "toml", "--api-hosts", api],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  child.unref();
  const show = async <T>(...words: string[]) =>
    JSON.parse(await space.runOk("gobgp", ["--target", api, "-j", ...words])) as T;
  await wait("GoBGP's API", () => show("neighbor"));
  return {
    async established() {
      const all = await show<{ conf: { neighbor_address: string }; state: { session_state: number } }[]>("neighbor");
      return all.filter((n) => n.state.session_state === 6).map((n) => n.conf.neighbor_address);
    },
    async routes(v) {
      type Attribute = { type: number; nexthop?: string; communities?: number[]; as_paths?: { asns: number[] }[] };
      type Path = { best?: boolean; attrs: Attribute[] };
      const table = await show<Record<string, Path[]>>("global", "rib", "-a", v === 4 ? "ipv4" : "ipv6");
      return Object.entries(table).map(([net, paths]) => {
        const attrs = (paths.find((p) => p.best) ?? paths[0]!).attrs;
        const of = (type: number) => attrs.find((a) => a.type === type);
        return {
          net,
          path: of(2)?.as_paths?.flatMap((p) => p.asns) ?? [],
          nextHop: of(3)?.nexthop ?? of(14)?.nexthop ?? "",
          communities: (of(8)?.communities ?? []).map((c) => `${c >>> 16}:${c & 0xffff}`),
        };
      });
    },
  };
}
