/** `tortie node --datastore=embedded`: one host, no etcd, the binary alone. */
import assert from "node:assert/strict";
import { makeHosts } from "../lab/hosts.ts";
import { startTortie } from "../lab/tortie.ts";
import { wait } from "../lab/wait.ts";

const socket = "unix:///run/tortie/store.sock";

Deno.test("a node with its own store: starts, is killed, finds it again; a killed store comes back with all it held", async () => {
  await using lab = await makeHosts(1, { prefix: "so" });
  const host = lab.hosts[0]!;
  // The lab's node is given no etcd: an empty variable is an unset one.
  const env = { TORTIE_DATASTORE: "embedded" };
  const node = await startTortie(host, { etcdEndpoint: "", env });
  const etcdctl = (...args: string[]) =>
    host.runOk("etcdctl", ["--endpoints", socket, "--command-timeout", "3s", ...args], { env: { ETCDCTL_API: "3" } });
  const keys = async () => (await etcdctl("get", "--prefix", "/calico/", "--keys-only")).split("\n").filter(Boolean);
  const storePid = async () => (await host.runOk("pgrep", ["-f", "store --file /var/lib/tortie/store.db"])).trim();

  const first = await keys();
  assert.ok(first.includes("/calico/resources/v3/projectcalico.org/ippools/default-ipv4-ippool"), first.join("\n"));
  const pid = await storePid();
  await node.process.kill();
  assert.equal(await storePid(), pid, "the store outlives the node");
  await node.start();
  assert.equal(await storePid(), pid, "and is found again");

  await host.runOk("kill", ["-9", pid]);
  const now = await wait("the store to be started again", async () => await keys(), { deadlineMs: 20_000 });
  assert.deepEqual(now, first);
  assert.notEqual(await storePid(), pid);
  await wait(
    "the node to be ready again",
    async () => (await host.run("curl", ["-fsS", "--max-time", "2", "http://localhost:9099/readyz"])).code === 0,
    {
      deadlineMs: 20_000,
    },
  );
});

Deno.test("a node that is told of an etcd and of its own store says so and ends", async () => {
  await using lab = await makeHosts(1, { prefix: "so" });
  const env = { TORTIE_DATASTORE: "embedded" };
  await assert.rejects(
    startTortie(lab.hosts[0]!, { etcdEndpoint: "http://127.0.0.1:1", env }),
    /TORTIE_DATASTORE is .*embedded.* and ETCD_ENDPOINTS names an etcd/,
  );
});
