import assert from "node:assert/strict";
import {
  giveBlock,
  makeBgpLab,
  patiently,
  routeTo,
  type RunningRouting,
  type SpeakerHost,
  startRouting,
} from "./_bgp_lab.ts";
import { type Router, startFrr, startGobgp } from "./_routers.ts";

const there = (path: string): boolean => {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
};
const sanitizers = { sanitizeOps: false, sanitizeResources: false };
// Debian: frr, gobgpd. A test whose router is not installed is listed as ignored.
const withFrr = { ...sanitizers, ignore: !there("/usr/lib/frr/bgpd") };
const withGobgp = { ...sanitizers, ignore: !there("/usr/bin/gobgpd") };

/** Waits until the router has that many sessions established. */
async function sessionsWith(router: Router, count: number, routings: RunningRouting[]): Promise<void> {
  await patiently(`${count} sessions of the router`, async () => {
    const up = await router.established();
    const ours = await Promise.all(routings.map(async (r) => (await r.routing.status()).sessions));
    if (up.length !== count) throw new Error(`${up}; ${JSON.stringify(ours)}`);
    return true;
  }, { deadlineMs: 60_000, everyMs: 200 });
}

/** Waits until the router's table is exactly this: `net path nextHop communities`. */
async function table(router: Router, v: 4 | 6, expected: string[]): Promise<void> {
  await patiently(`the router's IPv${v} table`, async () => {
    const got = (await router.routes(v)).map((r) =>
      [r.net, r.path.join(" "), r.nextHop, r.communities.toSorted().join(" ")].join(" | ")
    );
    assert.deepEqual(got.sort(), expected.toSorted());
    return true;
  }, { deadlineMs: 30_000, everyMs: 300 });
}

Deno.test("FRR as a top-of-rack router: eBGP, dual stack, password, filter, communities", withFrr, async () => {
  await using lab = await makeBgpLab(2);
  const [h1, h2] = lab.hosts as [SpeakerHost, SpeakerHost];
  const tor = await lab.plug("tor", 101);
  const password = { secretKeyRef: { name: "bgp", key: "tor" } };
  for (const host of lab.hosts) {
    await Deno.mkdir(`${host.paths.secrets}/bgp`, { recursive: true });
    await Deno.writeTextFile(`${host.paths.secrets}/bgp/tor`, "rack-7-secret\n", { mode: 0o600 });
    await giveBlock(lab, host, `10.65.${host.number}.0/26`);
    await giveBlock(lab, host, `fd65::${host.number}00/122`);
  }
  // The mesh's routes stay inside; own ones carry a mark.
  const own = [{ source: "RemotePeers", action: "Reject" }];
  await lab.put("bgpfilters", "own-only", { exportV4: own, exportV6: own });
  const peer = { asNumber: 65010, password, filters: ["own-only"] };
  await lab.put("bgppeers", "tor4", { peerIP: "10.99.0.101", ...peer });
  await lab.put("bgppeers", "tor6", { peerIP: "fd99::101", ...peer });
  await lab.put("bgpconfigurations", "default", {
    prefixAdvertisements: [{ cidr: "10.65.0.0/16", communities: ["65100:11", "65100:1:2"] }],
  });
  const router = await startFrr(
    tor,
    `${lab.dir}/frr`,
    `router bgp 65010
 bgp router-id 10.99.0.101
 no bgp ebgp-requires-policy
 no bgp network import-check
 no bgp default ipv4-unicast
 bgp graceful-restart
 neighbor NODES peer-group
 neighbor NODES remote-as 64512
 neighbor NODES password rack-7-secret
 bgp listen range 10.99.0.0/24 peer-group NODES
 bgp listen range fd99::/64 peer-group NODES
 address-family ipv4 unicast
  network 172.31.0.0/16
  neighbor NODES activate
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:77::/48
  neighbor NODES activate
 exit-address-family
`,
  );
  await using first = startRouting(lab, h1);
  await using second = startRouting(lab, h2);
  await sessionsWith(router, 4, [first, second]);
  const marks = "65100:11 65100:1:2";
  await table(router, 4, [
    `10.65.1.0/26 | 64512 | 10.99.0.1 | ${marks}`,
    `10.65.2.0/26 | 64512 | 10.99.0.2 | ${marks}`,
    "172.31.0.0/16 |  | 0.0.0.0 | ",
  ]);
  await table(router, 6, [
    "2001:db8:77::/48 |  | :: | ",
    "fd65::100/122 | 64512 | fd99::1 | ",
    "fd65::200/122 | 64512 | fd99::2 | ",
  ]);
  for (const host of lab.hosts) {
    await patiently(`FRR's network on ${host.name}`, async () => {
      assert.deepEqual(await routeTo(host.space, "172.31.0.0/16"), ["10.99.0.101"]);
      // FRR tells its link-local address beside the global one (RFC 2545), and BIRD takes that.
      assert.match((await routeTo(host.space, "2001:db8:77::/48"))![0]!, /^fe80::|^fd99::101$/);
      return true;
      // A session that came up at its second try may get no end-of-RIB of FRR, which is in a graceful restart of its own;
      // BIRD then holds the kernel's routes back for `graceful restart wait` (60 s).
    }, { deadlineMs: 90_000, everyMs: 200 });
  }
  const [route] = await h1.space.ipJson<{ metric: number }[]>("-4 route show exact 172.31.0.0/16");
  assert.equal(route!.metric, 2147483547);
  assert.deepEqual((await first.routing.status()).problems, []);
  assert.ok(!JSON.stringify([first.logged, second.logged]).includes("rack-7-secret"));
});

Deno.test("GoBGP as a route reflector of the cluster's AS: iBGP, dual stack, next hop kept", withGobgp, async () => {
  await using lab = await makeBgpLab(2);
  const [h1, h2] = lab.hosts as [SpeakerHost, SpeakerHost];
  const space = await lab.plug("rr", 102);
  await lab.put("bgpconfigurations", "default", { nodeToNodeMeshEnabled: false });
  await lab.put("bgppeers", "rr4", { peerIP: "10.99.0.102", asNumber: 64512 });
  await lab.put("bgppeers", "rr6", { peerIP: "fd99::102", asNumber: 64512 });
  for (const host of lab.hosts) {
    await giveBlock(lab, host, `10.65.${host.number}.0/26`);
    await giveBlock(lab, host, `fd65::${host.number}00/122`);
  }
  const neighbor = (address: string, family: string) =>
    `[[neighbors]]
  [neighbors.config]
    neighbor-address = "${address}"
    peer-as = 64512
  [neighbors.transport.config]
    passive-mode = true
  [neighbors.route-reflector.config]
    route-reflector-client = true
    route-reflector-cluster-id = "10.99.0.102"
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "${family}-unicast"
`;
  const router = await startGobgp(
    space,
    `${lab.dir}/gobgp`,
    `[global.config]
  as = 64512
  router-id = "10.99.0.102"
${lab.hosts.flatMap((h) => [neighbor(h.address, "ipv4"), neighbor(h.address6, "ipv6")]).join("")}`,
  );
  await using first = startRouting(lab, h1);
  await using second = startRouting(lab, h2);
  await sessionsWith(router, 4, [first, second]);
  await table(router, 4, ["10.65.1.0/26 |  | 10.99.0.1 | ", "10.65.2.0/26 |  | 10.99.0.2 | "]);
  await table(router, 6, ["fd65::100/122 |  | fd99::1 | ", "fd65::200/122 |  | fd99::2 | "]);
  for (const [at, from] of [[h1, h2], [h2, h1]] as const) {
    await patiently(`the blocks of ${from.name} on ${at.name}`, async () => {
      assert.deepEqual(await routeTo(at.space, `10.65.${from.number}.0/26`), [from.address]);
      assert.deepEqual(await routeTo(at.space, `fd65::${from.number}00/122`), [from.address6]);
      return true;
    });
  }
});

Deno.test(
  "GoBGP as a top-of-rack router: eBGP with its own prefix, wrong password keeps the session down",
  withGobgp,
  async () => {
    await using lab = await makeBgpLab(1);
    const [h1] = lab.hosts as [SpeakerHost];
    const space = await lab.plug("tor", 103);
    const secret = `${h1.paths.secrets}/bgp`;
    await Deno.mkdir(secret, { recursive: true });
    await Deno.writeTextFile(`${secret}/tor`, "wrong\n", { mode: 0o600 });
    const password = { secretKeyRef: { name: "bgp", key: "tor" } };
    await lab.put("bgppeers", "tor", { peerIP: "10.99.0.103", asNumber: 65010, password });
    await giveBlock(lab, h1, "10.65.1.0/26");
    const router = await startGobgp(
      space,
      `${lab.dir}/gobgp`,
      `[global.config]
  as = 65010
  router-id = "10.99.0.103"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "10.99.0.1"
    peer-as = 64512
    auth-password = "right"
`,
    );
    await using first = startRouting(lab, h1);
    await patiently("a try to connect", async () => {
      const { sessions } = await first.routing.status();
      return sessions[0]?.state === "Connect" || sessions[0]?.lastError !== undefined;
    });
    assert.deepEqual(await router.established(), []);
    await Deno.writeTextFile(`${secret}/tor`, "right\n", { mode: 0o600 });
    await patiently("the session", async () => (await router.established()).length === 1, { deadlineMs: 60_000 });
    await table(router, 4, ["10.65.1.0/26 | 64512 | 10.99.0.1 | "]);
    assert.equal((await first.routing.status()).sessions[0]!.lastError, undefined);
  },
);
