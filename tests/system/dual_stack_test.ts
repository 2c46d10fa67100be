import { keepOnFailure } from "../lab/artefacts.ts";
import assert from "node:assert/strict";
import { makeCluster } from "../lab/cluster.ts";
import { wait } from "../lab/wait.ts";

Deno.test({
  name: "pods with IPv4 and IPv6 reach each other across hosts in both families",
  // gRPC connections of the lab close in their own time.
  ...{ sanitizeOps: false, sanitizeResources: false },
  fn: async () => {
    await using cluster = await makeCluster({
      ...{ hosts: 2, prefix: "dual" },
      node: {
        env: { IP6: "autodetect", CALICO_IPV6POOL_CIDR: "fd00:244::/48" },
        plugin: { ipam: { type: "calico-ipam", assign_ipv4: "true", assign_ipv6: "true" } },
      },
    });
    await keepOnFailure("dual_stack", cluster.lab, async () => {
      const [first, second] = [await cluster.runPod(0, "both-1"), await cluster.runPod(1, "both-2")];
      assert.deepEqual([first, second].map((pod) => pod.addresses.length), [2, 2]);
      for (const address of second.addresses) {
        await wait(`${first.name} to reach ${address}`, async () => {
          const words = ["ping", ...(address.includes(":") ? ["-6"] : []), "-c", "1", "-W", "1", address];
          return (await first.exec(words)).code === 0;
        }, { deadlineMs: 15_000, everyMs: 200 });
      }
      for (const pod of [first, second]) await pod.remove();
    }, { "etcd.json": async () => JSON.stringify(Object.fromEntries(await cluster.etcd.dump("/calico/")), null, 1) });
  },
});
