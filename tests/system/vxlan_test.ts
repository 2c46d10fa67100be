/** Hosts that reach each other's pods through VXLAN, no BIRD: real packets, seen on the wire; one host behind a router. */
import assert from "node:assert/strict";
import { derivedMac } from "../../agent/network/cluster_nodes.ts";
import { keepOnFailure } from "../lab/artefacts.ts";
import { Capture, type Captured } from "../lab/capture.ts";
import { makeOverlay, type Overlay, type OverlayPod } from "../lab/overlay.ts";
import { wait } from "../lab/wait.ts";

const env = {
  ...{ CALICO_NETWORKING_BACKEND: "vxlan", CALICO_IPV4POOL_VXLAN: "Always", CALICO_IPV6POOL_VXLAN: "Always" },
  ...{ IP6: "autodetect", CALICO_IPV6POOL_CIDR: "fd00:244::/48" },
};

Deno.test({
  name: "pods of three hosts talk through VXLAN, whatever happens to the network below",
  ...{ sanitizeOps: false, sanitizeResources: false },
  fn: async (t) => {
    await using overlay = await makeOverlay({ hosts: 3, far: [3], prefix: "vxs", ipv6: true, env });
    await keepOnFailure("vxlan", overlay.lab, async () => {
      const pods = await Promise.all(["one", "two", "three"].map((name, i) => overlay.pod(i, name)));
      for (const [name, step] of Object.entries(steps)) await t.step(name, () => step(overlay, pods));
    });
  },
});

const steps: Record<string, (overlay: Overlay, pods: OverlayPod[]) => Promise<void>> = {
  async "every pod reaches every other one, and nothing of it is on the wire in clear"(overlay, pods) {
    using wire = new Capture(overlay.lab.wire.path, "h1");
    await allReach(pods);
    const seen = ofPods(wire.take(), pods);
    assert.ok(seen.length >= 16, `${seen.length} packets`);
    for (const p of seen) {
      const outer = p.from.includes(":") ? 6 : 4;
      assert.deepEqual([p.protocol, p.port, p.vxlan?.vni], [17, 4789, 4096], JSON.stringify(p));
      assert.equal(p.inner!.from.includes(":"), outer === 6, "each version has a tunnel of its own");
      const host = overlay.lab.hosts.findIndex(({ name }) => derivedMac(name, outer) === p.vxlan!.macTo);
      assert.ok(pods[host]!.addresses.includes(p.inner!.to), "the frame goes to the VTEP of the pod's host");
    }
  },

  async "the largest packet that fits goes through whole, and pods know how large that is"(overlay, pods) {
    const [one, , three] = pods as [OverlayPod, OverlayPod, OverlayPod];
    assert.equal(await mtuOf(one), 1430);
    for (const address of three.addresses) {
      assert.equal(await one.ping(address, { bytes: 1430 }), 1);
      assert.equal(await one.ping(address, { bytes: 1431 }), 0);
    }
    assert.deepEqual(await tunnelMtus(overlay), [1450, 1430]);
  },

  async "a smaller MTU below reaches tunnels and pods at once, and a larger one too"(overlay, pods) {
    const [one, , three] = pods as [OverlayPod, OverlayPod, OverlayPod];
    for (const [host, pod] of [[1400, 1330], [1500, 1430]] as const) {
      for (const h of overlay.lab.hosts) await h.runOk("ip", ["link", "set", "eth0", "mtu", String(host)]);
      await wait(`MTU ${pod} in all pods`, async () => {
        return (await Promise.all(pods.map(mtuOf))).every((mtu) => mtu === pod);
      });
      await wait("MTU of the tunnels", async () => (await tunnelMtus(overlay)).join() === `${host - 50},${host - 70}`);
      for (const address of three.addresses) assert.equal(await one.ping(address, { bytes: pod }), 1);
      assert.equal(await Deno.readTextFile(overlay.lab.hosts[0]!.path("/var/lib/calico/mtu")), String(pod));
    }
  },

  async "what others take away or add comes back, or goes, within a moment"(overlay, pods) {
    const host = overlay.lab.hosts[0]!, ip = (words: string) => host.runOk("ip", words.split(" "));
    const before = await state(overlay);
    const mac = derivedMac("h3", 4);
    const harm: [string, () => Promise<unknown>][] = [
      ["device", () => ip("link del vxlan.calico")],
      ["device of another network", async () => {
        // The agent is quick, so the two are one command, until they win.
        const add = "link add vxlan.calico type vxlan id 7 dstport 9 dev eth0";
        const both = `until printf 'link del vxlan.calico\\n${add}\\n' | ip -batch - 2>/dev/null; do :; done`;
        await host.runOk("sh", ["-c", both]);
      }],
      ["device down", () => ip("link set vxlan-v6.calico down")],
      ["address", () => ip("addr flush dev vxlan.calico scope global")],
      ["strange address", () => ip("addr add 192.0.2.77/32 dev vxlan.calico")],
      ["forwarding", () => host.runOk("bridge", ["fdb", "del", mac, "dev", "vxlan.calico"])],
      [
        "strange forwarding",
        () => host.runOk("bridge", [..."fdb add 02:00:00:00:00:09 dst 192.0.2.9 dev vxlan.calico".split(" ")]),
      ],
      ["neighbours", () => ip("neigh flush dev vxlan-v6.calico nud permanent")],
      ["routes", () => ip("route flush dev vxlan.calico")],
      ["strange route", () => ip("route add 198.51.100.0/24 dev vxlan.calico")],
    ];
    for (const [what, work] of harm) {
      await work();
      await wait(`the repair of: ${what}`, async () => (await state(overlay)) === before).catch(async (error) => {
        throw new Error(`${error.message}\nbefore:\n${before}\nnow:\n${await state(overlay)}`);
      });
    }
    await allReach(pods);
  },

  async "a VXLAN packet of a stranger is dropped, one of a listed host is let in"(overlay) {
    const counts = async () => {
      const both = "iptables-legacy-save -c -t filter; iptables-nft-save -c -t filter";
      const { stdout } = await overlay.lab.hosts[0]!.run("sh", ["-c", both]);
      return ["Allow IPv4 VXLAN packets from", "Drop IPv4 VXLAN packets"].map((words) =>
        Number(new RegExp(`\\[(\\d+):\\d+\\] .*${words}`).exec(stdout)?.[1] ?? NaN)
      ) as [number, number];
    };
    const send = () => overlay.lab.wire.runOk("bash", ["-c", "echo hello > /dev/udp/172.30.0.11/4789"]);
    const [allowed, dropped] = await counts();
    assert.ok(allowed > 0);
    await send();
    assert.deepEqual(await counts(), [allowed, dropped + 1]);
    await overlay.patch("felixconfiguration", "default", { externalNodesList: ["172.30.0.1"] });
    await wait("the listed host to be let in", async () => {
      await send();
      return (await counts())[0] > allowed;
    });
  },

  async "killing an agent stops no packet"(overlay, pods) {
    const [one, two] = pods as [OverlayPod, OverlayPod];
    const pings = one.ping(two.addresses[0]!, { count: 60, everyS: 0.05 });
    await overlay.nodes[0]!.process.kill();
    await overlay.nodes[0]!.start();
    assert.equal(await pings, 60);
  },

  async "two nodes with one MAC: the second is named, the others are reached"(overlay, pods) {
    const [one, two, three] = pods as [OverlayPod, OverlayPod, OverlayPod];
    await overlay.patch("node", "h3", { vxlanTunnelMACAddr: derivedMac("h2", 4) });
    await wait(
      "h1 to name it",
      () =>
        /node is not reachable as it says.*"object":"Node:h3".*also that of node h2/.test(
          overlay.nodes[0]!.process.logTail(50),
        ),
    );
    await wait("h3 to be left out", async () => !(await state(overlay)).includes("172.31.0.13"));
    assert.equal(await one.ping(two.addresses[0]!), 1);
    assert.equal(await one.ping(three.addresses[1]!), 1, "its IPv6 has another MAC");
    await overlay.patch("node", "h3", { vxlanTunnelMACAddr: "66:00:00:00:00:33" });
    await reaches(one, three);
  },

  async "CrossSubnet: neighbours without a tunnel, the host behind a router through it"(overlay, pods) {
    const [one, two, three] = pods as [OverlayPod, OverlayPod, OverlayPod];
    for (const pool of ["default-ipv4-ippool", "default-ipv6-ippool"]) {
      await overlay.patch("ippool", pool, { vxlanMode: "CrossSubnet" });
    }
    using wire = new Capture(overlay.lab.wire.path, "h1");
    for (const [other, encapsulated] of [[two, false], [three, true]] as const) {
      await wait(`the way to ${other.name}`, async () => {
        await reaches(one, other);
        wire.take();
        await reaches(one, other);
        return ofPods(wire.take(), pods).every((p) => (p.vxlan !== undefined) === encapsulated);
      });
    }
    await allReach(pods);
  },

  async "a node that is deleted leaves nothing behind on the others"(overlay, pods) {
    const [one, two] = pods as [OverlayPod, OverlayPod];
    await overlay.nodes[2]!.process.kill("SIGTERM");
    await overlay.nodes[0]!.ctl("delete", "node", "h3");
    await wait("h3 to be forgotten", async () => {
      const text = await state(overlay);
      return !/172\.31\.0\.13|fd00:31::13|66:00:00:00:00:33/.test(text);
    });
    await reaches(one, two);
    const sets = (await overlay.lab.hosts[0]!.runOk("ipset", ["list", "cali40all-vxlan-net"])).split("\n");
    assert.ok(!sets.includes("172.31.0.13"));
  },

  async "without encapsulation the devices and their addresses go, and the agent's plain routes carry the pods"(
    overlay,
    pods,
  ) {
    const [one, two] = pods as [OverlayPod, OverlayPod];
    for (const pool of ["default-ipv4-ippool", "default-ipv6-ippool"]) {
      await overlay.patch("ippool", pool, { vxlanMode: "Never" });
    }
    for (const host of overlay.lab.hosts.slice(0, 2)) {
      await wait(`the end of ${host.name}'s tunnels`, async () => {
        return !/vxlan/.test((await host.run("ip", ["-o", "link"])).stdout);
      });
    }
    await reaches(one, two);
    const routes = await overlay.lab.hosts[0]!.runOk("ip", ["route", "show", "proto", "80"]);
    assert.match(routes, /via 172\.30\.0\.12 dev eth0 onlink/);
    const handles = await overlay.etcd.dump("/calico/ipam/v2/handle/");
    assert.deepEqual([...handles.keys()].filter((key) => /tunnel-addr-h[12]/.test(key)), []);
    await wait("the MTU of pods without a tunnel", async () => await mtuOf(one) === 1500);
  },
};

/** Packets between pods, whatever carries them. */
function ofPods(all: Captured[], pods: OverlayPod[]): Captured[] {
  const addresses = new Set(pods.flatMap((p) => p.addresses));
  const isBetween = (p: Captured | undefined) => p !== undefined && addresses.has(p.from) && addresses.has(p.to);
  return all.filter((p) => isBetween(p) || isBetween(p.inner));
}

async function allReach(pods: OverlayPod[]): Promise<void> {
  const pairs = pods.flatMap((from) => pods.filter((to) => to !== from).map((to) => [from, to] as const));
  await Promise.all(pairs.map(([from, to]) => reaches(from, to)));
}

async function reaches(from: OverlayPod, to: OverlayPod): Promise<void> {
  for (const address of to.addresses) {
    await wait(`${from.name} to reach ${to.name} at ${address}`, async () => await from.ping(address) === 1);
  }
}

const mtuOf = async (pod: OverlayPod): Promise<number> =>
  Number(/mtu (\d+)/.exec((await pod.run("ip", "-o", "link", "show", "eth0")).stdout)?.[1]);

const tunnelMtus = async ({ lab }: Overlay): Promise<number[]> =>
  await Promise.all(
    ["vxlan.calico", "vxlan-v6.calico"].map(async (name) =>
      Number(/mtu (\d+)/.exec((await lab.hosts[0]!.run("ip", ["-o", "link", "show", name])).stdout)?.[1])
    ),
  );

/** All that the first host's kernel has for its tunnels, without what counts and ages. */
async function state({ lab }: Overlay): Promise<string> {
  const script = ["vxlan.calico", "vxlan-v6.calico"].map((d) =>
    `ip -d -o link show ${d} | sed 's/^[0-9]*://; s/ numtx.*//'; ip -o addr show dev ${d} scope global | cut -d' ' -f2-7;` +
    `ip route show dev ${d} | sort; ip -6 route show dev ${d} | grep -v fe80 | sort;` +
    `ip neigh show dev ${d} nud permanent | sort; bridge fdb show dev ${d} | sort`
  ).join(";");
  return (await lab.hosts[0]!.run("sh", ["-c", script])).stdout;
}
