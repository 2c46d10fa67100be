/** A host on which everything was installed and used, and from which everything is removed again. */
import assert from "node:assert/strict";
import { startEtcd } from "../lab/etcd.ts";
import type { Host } from "../lab/host.ts";
import { makeHosts } from "../lab/hosts.ts";
import { binary, pluginConfig, startTortie } from "../lab/tortie.ts";
import { wait } from "../lab/wait.ts";

/** Files, links, routes, addresses, rules, sets and processes of a host, one a line. */
async function stateOf(host: Host): Promise<string[]> {
  const look = async (command: string) => (await host.runOk("sh", ["-c", command])).trim().split("\n");
  return [
    ...await look("find /etc /opt /run /usr/local /usr/bin /usr/sbin /var/lib -xdev ! -path '/run/netns*' | sort"),
    ...await look("ip -br link | sed 's/@.*//' | sort"),
    ...await look("(ip route show table all; ip -6 route show table all) | grep -v 'fe80\\|multicast' | sort"),
    ...await look("ip rule | sort; ip -6 rule | sort"),
    ...await look(
      "(iptables-legacy-save; ip6tables-legacy-save; iptables-nft-save; ip6tables-nft-save) | grep cali || true",
    ),
    ...await look("ipset list -name; nft list tables | grep calico || true"),
    ...await look("cat /proc/[0-9]*/comm | sort | grep -x 'bird\\|tortie' || true"),
  ];
}

async function addPod(host: Host, config: Record<string, unknown>): Promise<void> {
  await host.runOk("ip", ["netns", "add", "pod1"]);
  const env = {
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: "h8pod1",
    CNI_NETNS: "/run/netns/pod1",
    CNI_IFNAME: "eth0",
    CNI_PATH: "/opt/cni/bin",
  };
  const result = await host.run("/opt/cni/bin/calico", [], { env, stdin: JSON.stringify(config) });
  assert.equal(result.code, 0, result.stdout + result.stderr);
}

Deno.test("uninstall leaves no file, interface, route, rule or process of a node that ran with a pod", async () => {
  await using lab = await makeHosts(1, { prefix: "h8" });
  const host = lab.hosts[0]!;
  await using etcd = await startEtcd({ netns: lab.wire.name, address: lab.serverAddress });
  // Folders of the runtime belong to the lab. Forwarding stays on, and brings the kernel's own anycast routes along.
  const forwarding = "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1";
  await host.runOk("sh", ["-c", `mkdir -p /opt/cni/bin /etc/cni/net.d; ${forwarding}`]);
  const before = await stateOf(host);
  const installed = await host.run(binary, ["install", "--binary", binary, "--set", `ETCD_ENDPOINTS=${etcd.endpoint}`]);
  assert.equal(installed.code, 0, installed.stderr);
  assert.match(installed.stdout, /systemd does not run here/);
  const options = { etcdEndpoint: etcd.endpoint };
  await host.runOk("rm", ["/etc/cni/net.d/10-calico.conflist"]);
  const node = await startTortie(host, options);
  await addPod(host, pluginConfig(host, options));
  const during = await stateOf(host);
  assert.ok(during.some((line) => line.startsWith("cali")), "the pod's interface is there");
  assert.ok(during.includes("bird"), "BIRD runs");
  assert.ok(during.some((line) => line.startsWith("-A cali-FORWARD")), "policy's chains are there");
  assert.ok(during.includes("cali40this-host"), "policy's sets are there");

  const refused = await host.run(binary, ["uninstall"]);
  assert.deepEqual([refused.code, /an agent is running/.test(refused.stderr)], [1, true], refused.stderr);
  await node.process.kill("SIGTERM");
  await wait("the agent's end", () => node.process.isEnded);
  const done = await host.run(binary, ["uninstall", "--force"]);
  assert.equal(done.code, 0, done.stderr + done.stdout);
  await host.runOk("ip", ["netns", "delete", "pod1"]);
  // iptables' own lock file, which it leaves wherever it runs.
  const others = [...before, "/run/xtables.lock"];
  assert.deepEqual((await stateOf(host)).filter((line) => !others.includes(line)), []);
});
