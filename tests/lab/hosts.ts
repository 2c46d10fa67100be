import { runOk } from "../../lib/process.ts";
import { bootHost, Host } from "./host.ts";
import { makeNamespace, Namespace } from "./namespaces.ts";

/** How the wire of a lab is made. */
export interface LabOptions {
  /** Begins the names of everything that is made; at most 6 characters. Default "lab". */
  prefix?: string;
  /** Hosts and servers live on when this process ends. */
  outlive?: boolean;
}

/**
 * Hosts h1, h2, … on one Ethernet segment, `172.30.0.0/24` and `fd00:30::/64`. Beside them on the wire stands a machine
 * for servers (etcd, an API server): the namespace `wire`, .1.
 */
export interface Lab extends AsyncDisposable {
  readonly hosts: Host[];
  /** Namespace of the bridge; has the address `serverAddress`, which is also the hosts' default gateway. */
  readonly wire: Namespace;
  readonly serverAddress: string;
  /** Folder on tmpfs for everything of this lab; `<dir>/h1` is host h1's. */
  readonly dir: string;
  /** What all names of this lab begin with. */
  readonly prefix: string;
  /** Unplugs a host from the wire, or plugs it in again. */
  plug(host: Host, on: boolean): Promise<void>;
}

/** Makes `count` hosts. Everything goes with the scope: processes, namespaces, mounts, files. */
export async function makeHosts(count: number, options: LabOptions = {}): Promise<Lab> {
  const name = options.prefix ?? "lab";
  const wire = await makeNamespace(name);
  const dir = `/dev/shm/${wire.name}`;
  const hosts: Host[] = [];
  const spaces: Namespace[] = [];
  const lab: Lab = {
    ...{ hosts, wire, dir, prefix: wire.name, serverAddress: "172.30.0.1" },
    plug: async (host, on) => void await wire.ip(`link set ${host.name} ${on ? "up" : "down"}`),
    [Symbol.asyncDispose]: () => tearDown(dir, wire, hosts, spaces),
  };
  try {
    await wire.ip("link add wire0 type bridge");
    await wire.ip("addr add 172.30.0.1/24 dev wire0");
    await wire.ip("addr add fd00:30::1/64 dev wire0 nodad");
    await wire.ip("link set wire0 up");
    for (let i = 1; i <= count; i++) {
      const space = await makeNamespace(`${wire.name}-h${i}`);
      spaces.push(space);
      await plugIn(wire, space, `h${i}`, i);
      hosts.push(
        await bootHost({
          ...{ name: `h${i}`, netns: space.name, dir: `${dir}/h${i}`, outlive: options.outlive ?? false },
          ...{ address: `172.30.0.${10 + i}`, address6: `fd00:30::${10 + i}` },
        }),
      );
    }
    return lab;
  } catch (error) {
    await lab[Symbol.asyncDispose]();
    throw error;
  }
}

async function plugIn(wire: Namespace, space: Namespace, port: string, number: number): Promise<void> {
  await wire.ip(`link add ${port} master wire0 type veth peer name eth0 netns ${space.name}`);
  await wire.ip(`link set ${port} up`);
  await space.ip(`addr add 172.30.0.${10 + number}/24 dev eth0`);
  await space.ip(`addr add fd00:30::${10 + number}/64 dev eth0 nodad`);
  await space.ip("link set eth0 up");
  await space.ip("route add default via 172.30.0.1");
}

async function tearDown(dir: string, wire: Namespace, hosts: Host[], spaces: Namespace[]): Promise<void> {
  for (const host of hosts) await host[Symbol.asyncDispose]();
  for (const space of [...spaces, wire]) await space[Symbol.asyncDispose]();
  await removeCgroups(wire.name);
  await Deno.remove(dir, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}

/** containerd's groups are named after the lab; their processes are gone with the hosts. */
async function removeCgroups(name: string): Promise<void> {
  const found = await runOk("find", ["/sys/fs/cgroup", "-depth", "-type", "d", "-path", `*/${name}*`]);
  for (const folder of found.split("\n").filter((f) => f !== "")) {
    // A group can be busy for a moment after its last process; a leftover is empty and harms nobody.
    await Deno.remove(folder).catch(() => {});
  }
}
