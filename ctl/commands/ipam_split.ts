import { isProblem } from "../../lib/problem.ts";
import { formatCidr, parseCidr } from "../../lib/ip.ts";
import type { ClusterInformation } from "../../datastore/kinds/cluster_information.ts";
import type { IPPool } from "../../datastore/kinds/ip_pool.ts";
import type { Resources } from "../../datastore/resources.ts";
import { badInput, type Call, type Command } from "../command.ts";

/** `ipam split`: makes smaller pools of one, which blocks and addresses do not notice. */
export const ipamSplit: Command = {
  words: ["ipam", "split"],
  summary: "Replace a pool by N smaller ones; the datastore must be locked",
  usage: "N --name NAME | --cidr CIDR",
  flags: [
    { name: "name", value: "NAME", help: "the pool" },
    { name: "cidr", value: "CIDR", help: "the pool's network" },
  ],
  takes: 1,
  examples: ["ipam split 4 --name main"],
  run,
};

async function run(call: Call): Promise<number> {
  const resources = await call.resources();
  const { spec } = await resources.get<ClusterInformation>("ClusterInformation", "default");
  if (spec.datastoreReady !== false) {
    const todo = "Run the `calicoctl datastore migrate lock` command in order split the IP pools";
    throw badInput(`datastore is not locked. ${todo}`);
  }
  const pool = await poolOf(call, resources);
  const cidr = parseCidr(pool.spec.cidr);
  const { splitCidr, splitPool } = await import("../pool_split.ts");
  const parts = splitCidr(cidr, call.args[0]!, pool.spec.blockSize!);
  const names = await splitPool(resources, call.surroundings, pool, parts);
  const { out } = call.surroundings;
  out(`IP Pool ${pool.metadata.name} was successfully split into ${parts.length} smaller pools.`);
  for (const [i, part] of parts.entries()) out(`Created ${names[i]} with CIDR ${formatCidr(part)}.\n`);
  out("Please refer to the documentation for final steps.");
  return 0;
}

async function poolOf(call: Call, resources: Resources): Promise<IPPool> {
  const name = call.flags.text("name"), cidr = call.flags.text("cidr");
  if (name) {
    try {
      return await resources.get<IPPool>("IPPool", name);
    } catch (error) {
      if (isProblem(error, "not-found")) throw badInput(`unable to find IP pool with name ${name}: ${error.what}`);
      throw error;
    }
  }
  if (!cidr) throw badInput("no name or CIDR provided. Provide a name or CIDR to denote the IP pool to split");
  const { items } = await resources.list<IPPool>("IPPool");
  const pool = items.find((p) => p.spec.cidr === cidr);
  // Two blanks, as calicoctl: the name that was not given stands between them.
  if (!pool) throw badInput(`unable to find IP pool  covering the specified CIDR ${cidr}`);
  return pool;
}
