import { run, runOk } from "../../lib/process.ts";
import { leftovers, World } from "./world.ts";

/** Pids of a world that was left standing; in its folder. */
interface Kept {
  prefix: string;
  namespaces: string[];
  pids: number[];
}

/** Writes down what --end must take away, and says how to get in. */
export async function howToEnter(world: World): Promise<string> {
  const { lab, etcd } = world;
  const namespaces = [...lab.hosts.map((h) => h.netns), lab.wire.name];
  const kept: Kept = { prefix: lab.prefix, namespaces, pids: [...lab.hosts.map((h) => h.pid), etcd.pid] };
  await Deno.writeTextFile(`${lab.dir}/kept.json`, JSON.stringify(kept));
  const h1 = lab.hosts[0]!;
  return [
    "everything is left standing. To look at it:",
    ...lab.hosts.map((h) => `  nsenter -t ${h.pid} -m -u -i -n -p -w sh    # ${h.name}, ${h.address}`),
    `on a host:  export ETCD_ENDPOINTS=${etcd.endpoint}; ${lab.dir}/tortie ctl get nodes`,
    "            birdc -s /run/tortie/bird.ctl show route;  ctr -n k8s.io containers ls",
    `logs:       ${h1.dir}/tortie.log`,
    `etcd:       ip netns exec ${lab.wire.name} etcdctl --endpoints ${etcd.endpoint} get --prefix /calico`,
    "to end it:  ./dev demo --end",
  ].join("\n");
}

/** Takes away every world that --keep left. Exit code 1 when something stayed. */
export async function endKept(): Promise<number> {
  let stayed = 0, found = 0;
  for (const entry of [...Deno.readDirSync("/dev/shm")]) {
    const dir = `/dev/shm/${entry.name}`;
    const text = await Deno.readTextFile(`${dir}/kept.json`).catch(() => undefined);
    if (text === undefined) continue;
    found++;
    const kept = JSON.parse(text) as Kept;
    for (const pid of kept.pids) await run("kill", ["-9", String(pid)]);
    for (const name of kept.namespaces) {
      for (const pid of (await run("ip", ["netns", "pids", name])).stdout.split("\n").filter((p) => p !== "")) {
        await run("kill", ["-9", pid]);
      }
      await run("ip", ["netns", "delete", name]);
    }
    await run("find", ["/sys/fs/cgroup", "-depth", "-type", "d", "-path", `*/${kept.prefix}*`, "-delete"]);
    await runOk("rm", ["-rf", dir]);
    const left = await leftovers(kept.prefix);
    console.log(left.length === 0 ? `${kept.prefix}: gone` : `${kept.prefix}: left: ${left.join("; ")}`);
    stayed += left.length;
  }
  if (found === 0) console.log("no demo was left standing");
  return stayed > 0 ? 1 : 0;
}
