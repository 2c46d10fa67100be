import assert from "node:assert/strict";
import { parseIp, tryParseNet } from "../../lib/ip.ts";
import { isProblem } from "../../lib/problem.ts";
import { ensureInitialized } from "../../datastore/cluster.ts";
import { apiVersion, type Resource } from "../../datastore/kind.ts";
import { MemoryStore } from "../../datastore/memory.ts";
import { Rehearsal } from "../../datastore/rehearsal.ts";
import type { LocalInterface } from "../interfaces.ts";
import { effectOf, effectText } from "./effect.ts";
import { proposal, protectLabel, sshPortsOf, type Wishes, withoutProtection, withStored } from "./proposal.ts";
import { removeProtection } from "./removal.ts";
import type { Service } from "./services.ts";
import { servicesOf } from "./services.ts";

const service = (protocol: "TCP" | "UDP", port: number, program: string): Service => ({
  ...{ protocol, port, program },
  families: [4, 6],
});
const link = (name: string, defaultRoute: (4 | 6)[], ...nets: string[]): LocalInterface => ({
  ...{ name, index: 1, up: true, defaultRoute },
  addresses: nets.map((net) => tryParseNet(net)!),
});
const survey = {
  interfaces: [
    link("lo", [], "127.0.0.1/8"),
    link("eth0", [4], "192.0.2.1/24", "fe80::1/64"),
    link("eth1", [], "10.0.0.5/24"),
  ],
  services: [
    ...[service("TCP", 2222, "sshd"), service("TCP", 443, "nginx"), service("UDP", 443, "nginx")],
    ...[service("TCP", 5432, "postgres"), service("UDP", 53, "dnsmasq")],
  ],
};
const wishes: Wishes = { node: "n1", interfaces: [], allow: [], close: [], sshPorts: [2222], ownFailsafes: true };

async function effect(more: Partial<Wishes> = {}): Promise<string[]> {
  const rehearsal = await Rehearsal.of(new MemoryStore(), {});
  await ensureInitialized(rehearsal.resources, "", () => "u");
  for (const object of proposal(survey, { ...wishes, ...more })) await rehearsal.resources.apply(object);
  const reach = effectOf(survey, "n1", rehearsal.before, await rehearsal.after());
  assert.ok(reach.every((r) => r.before), "nothing is closed on a host that is not protected");
  return reach.filter((r) => r.after).map((r) => `${r.service.protocol} ${r.service.port} ${r.interfaceName}`);
}

const others = survey.services.map((s) => `${s.protocol} ${s.port} eth1`);

Deno.test("ssh where it listens, and web ports that something listens on, stay open; the rest is closed", async () => {
  assert.deepEqual(await effect(), [
    ...["TCP 2222 eth0", "TCP 2222 eth1", "TCP 443 eth0", "TCP 443 eth1", "UDP 443 eth0", "UDP 443 eth1"],
    ...["TCP 5432 eth1", "UDP 53 eth1"],
  ]);
});

Deno.test("what is wished for is opened and closed, on the interfaces that are named", async () => {
  const wished = await effect({
    interfaces: ["eth0", "eth1"],
    allow: [{ protocol: "UDP", port: 53 }],
    close: [{ protocol: "TCP", port: 443 }],
  });
  assert.deepEqual(wished.filter((w) => w.endsWith("eth1")), ["TCP 2222 eth1", "UDP 443 eth1", "UDP 53 eth1"]);
  assert.deepEqual(
    await effect({ interfaces: ["eth1"] }).then((all) => all.filter((w) => w.endsWith("eth0")).length),
    5,
  );
  const all = await effect({ close: [{ protocol: "TCP", port: 2222 }] });
  assert.deepEqual(
    all.filter((w) => !others.includes(w)).includes("TCP 2222 eth0"),
    true,
    "a failsafe port stays open",
  );
});

Deno.test("ssh is found by its program, by port 22, and by the session that asks", () => {
  assert.deepEqual(sshPortsOf(survey.services, 2022), [2022, 2222]);
  assert.deepEqual(sshPortsOf([service("TCP", 22, "systemd")], undefined), [22]);
  assert.deepEqual(sshPortsOf([], undefined), [22]);
});

Deno.test("a node's parameters keep what is in them; what others made is refused; what is left goes or stays whole", () => {
  const [parameters, policy] = proposal(survey, wishes) as [Resource, Resource];
  const stored = (spec: Record<string, unknown>, labels = {}): Resource => ({
    ...{ apiVersion, kind: "FelixConfiguration", metadata: { name: "node.n1", labels, resourceVersion: "7" } },
    spec,
  });
  const laid = withStored(parameters, stored({ defaultEndpointToHostAction: "Return" }, { a: "b" }));
  assert.deepEqual(laid.metadata.labels, { a: "b", [protectLabel]: "n1" });
  assert.equal(laid.spec.defaultEndpointToHostAction, "Return");
  const left = withoutProtection(laid)!;
  assert.deepEqual([left.metadata.labels, left.spec], [{ a: "b" }, { defaultEndpointToHostAction: "Return" }]);
  assert.equal(withoutProtection(policy), undefined);
  const foreign = stored({ failsafeInboundHostPorts: [] });
  assert.throws(() => withStored(parameters, foreign), (e) => isProblem(e, "exists"));
  assert.throws(() => withStored(policy, { ...policy, metadata: { name: "x" } }), (e) => isProblem(e, "exists"));
});

Deno.test("removing takes what bears the node's label, and nothing else", async () => {
  const store = new MemoryStore(), rehearsal = await Rehearsal.of(store, {});
  await ensureInitialized(rehearsal.resources, "", () => "u");
  const own = proposal(survey, wishes), others = proposal(survey, { ...wishes, node: "n2" });
  for (const object of [...own, ...others]) await rehearsal.resources.apply(object);
  const write = (await rehearsal.after()).map(({ key, value }) => ({ put: key, value }));
  await store.txn({ compare: [], write });
  const signed = { by: { user: "ann", host: "n1" }, at: "2026-01-02T03:04:05Z" };
  const removed = await removeProtection(store, await Rehearsal.of(store, {}), "n1", signed);
  assert.deepEqual(removed, [
    "HostEndpoint(n1-eth0)",
    "GlobalNetworkPolicy(protect-n1)",
    "the failsafe ports of FelixConfiguration(node.n1)",
  ]);
  const after = await Rehearsal.of(store, {});
  assert.deepEqual((await after.resources.list("HostEndpoint")).items.map((h) => h.metadata.name), ["n2-eth0"]);
  assert.deepEqual(await removeProtection(store, after, "n1", signed), []);
});

Deno.test("services are what listens on addresses that others have; the effect is told in a table", () => {
  const socket = (local: string, localPort: number, state: "listening" | "other" = "listening") => ({
    ...{ protocol: "TCP" as const, local: parseIp(local), localPort, remote: parseIp("0.0.0.0"), remotePort: 0, state },
    inode: String(localPort),
  });
  const sockets = [socket("::", 80), socket("0.0.0.0", 80), socket("127.0.0.1", 81), socket("::1", 82)];
  const found = servicesOf(
    [...sockets, socket("10.0.0.5", 83), socket("::", 84, "other")],
    (i) => (i === "80" ? "web" : undefined),
  );
  assert.deepEqual(found.map((s) => [s.port, s.program, s.families]), [[80, "web", [4, 6]], [83, "", [4]]]);
  const [web, other] = found;
  const text = effectText([
    { service: web!, interfaceName: "eth0", before: true, after: true, failsafe: true },
    { service: other!, interfaceName: "eth0", before: true, after: false, failsafe: false },
  ]);
  assert.match(text, /tcp\/80 +web +eth0 +open +open \(failsafe\)\ntcp\/83 +\? +eth0 +open +closed {2}<-\n$/);
});
