import {
  allow,
  deny,
  far,
  from,
  gate,
  ingress,
  movingAddresses,
  networkSet,
  profile,
  remote,
  resource,
  tier,
  to,
  web,
  webRules,
} from "./flood_policy.ts";
import type { FloodWorld } from "./flood_world.ts";
import type { Transition } from "./stage.ts";

const { first, second } = movingAddresses;
const { bad, worse, one, two, client, stage, webTcp } = webRules;
const put = (...resources: Parameters<FloodWorld["commit"]>[0]["put"] & object) => (w: FloodWorld) =>
  w.commit({ put: resources });
const del = (...resources: Parameters<FloodWorld["commit"]>[0]["put"] & object) => (w: FloodWorld) =>
  w.commit({ del: resources });

const more = (port: number) => ingress("default.more", 5, [{ ...allow, ...to("UDP", port) }]);
const late = (order: number) => tier("late", order);
const latePolicy = ingress("late.eighty-five", 1, [{ ...allow, ...to("UDP", 85) }, { action: "Pass" }]);
const port84 = ["-a>b 84", "-a>b 84 v6"], port85 = ["-a>b 85"];
const splitWeb = [{ ...allow, ...to("UDP", 79, "80:80") }];

/** Policies, tiers, profiles. */
export const policyTransitions: Transition[] = [
  { name: "a policy is added", act: put(more(84)), opens: port84 },
  { name: "a policy is changed", act: put(more(85)), closes: port84, opens: port85 },
  { name: "a rule that denies comes before", act: put(gate({ ...deny, ...to("UDP", 85) })), closes: port85 },
  { name: "a tier is added behind", act: put(late(20), latePolicy) },
  { name: "the order of tiers changes", act: put(late(5)), opens: port85 },
  { name: "the order of tiers changes back", act: put(late(20)), closes: port85 },
  { name: "a tier and its policy are removed", act: del(late(20), latePolicy) },
  { name: "a policy is removed", act: del(more(85)) },
  { name: "a rule that denies goes", act: put(gate()) },
  {
    name: "rules change places and are written otherwise",
    act: put(web([one, two, client, stage, bad, worse, webTcp, ...splitWeb])),
  },
  { name: "and back", act: put(web()) },
  {
    name: "a policy is replaced by another with the same rules",
    act: (w) => w.commit({ del: [web()], put: [web(undefined, "default.instead", "role in {'server', 'x'}")] }),
  },
  {
    name: "and back",
    act: (w) => w.commit({ put: [web()], del: [web(undefined, "default.instead", "role in {'server', 'x'}")] }),
  },
  {
    name: "rules look into other sets with the same members",
    act: put(
      web(
        Object.values(webRules).map((r) =>
          r === one
            ? { ...one, ...from("friend in {'one', 'none'}") }
            : r === bad
            ? { ...bad, ...from("mark in {'bad'}") }
            : r
        ),
      ),
    ),
  },
  { name: "and back", act: put(web()) },
  {
    name: "a profile's rules change",
    act: put(profile("prof-one", [{ ...allow, ...to("UDP", 81) }, { ...allow, ...to("UDP", 80) }])),
    opens: ["-outside>p 81"],
  },
  {
    name: "a profile's rules change back",
    act: put(profile("prof-one", [{ ...allow, ...to("UDP", 80) }])),
    closes: ["-outside>p 81"],
  },
  {
    name: "an endpoint gets another profile",
    act: (w) => w.relabel("p", {}, { profiles: ["prof-two"] }),
    opens: ["-outside>p 81"],
  },
  {
    name: "an endpoint gets its profile back",
    act: (w) => w.relabel("p", {}, { profiles: ["prof-one"] }),
    closes: ["-outside>p 81"],
  },
];

const friends = (...nets: string[]) => networkSet("friends", nets, { friend: "one" });
const others = ["+outside>b other friend"];
const many = Array.from({ length: 6_000 }, (_, i) => `172.${16 + (i >> 12)}.${i >> 4 & 255}.${(i & 15) << 4}/28`);

/** Members of sets. */
export const setTransitions: Transition[] = [
  { name: "a set's net is written as two halves", act: put(friends("198.51.100.0/25", "198.51.100.128/25")) },
  { name: "a set loses a member", act: put(friends("198.51.100.0/25")), closes: others },
  { name: "a set gets a member, and another becomes wider", act: put(friends("198.51.100.0/24")), opens: others },
  {
    name: "members go from one set to another, both allowed",
    act: put(networkSet("friends", ["198.51.100.0/24"], { friend: "two" })),
  },
  { name: "and back", act: put(friends("198.51.100.0/24")) },
  { name: "a member goes from one set to another, both denied", act: put(remote("r9", far.bad, { mark: "worse" })) },
  { name: "and back", act: put(remote("r9", far.bad, { mark: "bad" })) },
  {
    name: "an endpoint elsewhere loses a label",
    act: put(remote("r1", far.client, {})),
    closes: ["+outside>b client"],
  },
  { name: "and gets it again", act: put(remote("r1", far.client, { client: "yes" })), opens: ["+outside>b client"] },
  {
    name: "an endpoint elsewhere gets another address",
    act: put(remote("r1", far.moved, { client: "yes" })),
    closes: ["+outside>b client"],
    opens: ["-outside>b moved"],
  },
  {
    name: "and its first one",
    act: put(remote("r1", far.client, { client: "yes" })),
    closes: ["-outside>b moved"],
    opens: ["+outside>b client"],
  },
  { name: "a set gets 6,000 members more", act: put(friends("198.51.100.0/24", ...many)) },
  { name: "and loses them", act: put(friends("198.51.100.0/24")) },
  {
    name: "every set is made anew for more members",
    act: put(resource("FelixConfiguration", "default", { maxIpsetSize: 500_000 })),
  },
  { name: "and for as many as before", act: put(resource("FelixConfiguration", "default", {})) },
];

const opensC = ["-c>b web", "-c>b client", "-a>c"];
const opensC2 = ["-c'>b web", "-c'>b client", "-a>c'"];

/** Another rule that looks into the set of clients. */
const otherUse = ingress("default.other-use", 30, [{ ...client, destination: { ports: [87] } }]);
const without = (...rules: object[]) => Object.values(webRules).filter((r) => !rules.includes(r));

/** Endpoints of this host. */
export const endpointTransitions: Transition[] = [
  { name: "an endpoint is added", act: (w) => w.add("c", first), opens: opensC, openAtEnd: true },
  {
    name: "it loses the right to send and gets the right to be received, at once",
    act: (w) => w.relabel("c", { stage: "b" }),
  },
  { name: "and the other way round", act: (w) => w.relabel("c", { stage: "a" }) },
  {
    name: "a rule goes and an address gets into its set, at once",
    act: put(web(without(client)), otherUse, remote("r2", far.moved, { client: "yes" })),
    closes: ["+outside>b client", "-c>b client"],
  },
  {
    name: "and the other way round",
    act: (w) => w.commit({ put: [web()], del: [otherUse, remote("r2", far.moved, {})] }),
    opens: ["+outside>b client", "-c>b client"],
  },
  {
    name: "a member goes from one allowed set to another while the rules change",
    act: put(web([one, two, ...without(one, two)]), networkSet("friends", ["198.51.100.0/24"], { friend: "two" })),
    pauses: ["+outside>b friend", ...others],
  },
  {
    name: "and back",
    act: put(web(), friends("198.51.100.0/24")),
    pauses: ["+outside>b friend", ...others],
  },
  { name: "an endpoint is removed", act: (w) => w.remove("c"), closes: opensC },
  {
    name: "it comes back under its name with another address",
    act: (w) => w.add("c", second),
    opens: opensC2,
    openAtEnd: true,
  },
  {
    name: "its first address goes to another endpoint",
    act: (w) => w.add("d", first),
    opens: ["-d>b web", "-a>c"],
    openAtEnd: true,
  },
  {
    name: "they change addresses: both go, both come",
    act: async (w) => {
      await Promise.all([w.remove("c"), w.remove("d")]);
      await w.add("c", first);
    },
    closes: ["-d>b web", ...opensC2],
    opens: ["-c>b web", "-c>b client"],
    interrupts: ["-a>c"],
  },
];

/** The agent goes and comes, and etcd too. */
export const restartTransitions: Transition[] = [
  { name: "the agent is killed and started", act: (w) => restart(w, "SIGKILL") },
  { name: "the agent ends and is started", act: (w) => restart(w, "SIGTERM") },
  {
    name: "the agent is killed, much changes, it is started",
    act: (w) =>
      restart(w, "SIGKILL", async () => {
        await w.commit({
          put: [more(84), gate({ ...deny, ...to("UDP", 85) }), remote("r9", far.bad, { mark: "worse" })],
        });
        await w.commit({ put: [networkSet("friends", ["198.51.100.0/25"], { friend: "two" })], del: [web()] });
        await w.commit({ put: [web(undefined, "default.instead", "role in {'server'}")] });
      }),
    opens: port84,
    closes: others,
    pauses: ["+outside>b friend"],
  },
  {
    name: "the agent is killed while it writes, and started",
    act: async (w) => {
      await w.commit({ put: [web(), friends("198.51.100.0/24", ...many)], del: [web(undefined, "default.instead")] });
      await restart(w, "SIGKILL");
    },
    opens: others,
    pauses: ["+outside>b friend"],
  },
  { name: "the agent starts on a host without rules", act: startFromNothing, harm: true, steady: "denied" },
  {
    name: "etcd is frozen for a second",
    act: async (w) => {
      w.agent.etcd.stop();
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      w.agent.etcd.cont();
    },
  },
  {
    name: "etcd is killed, comes back, and a policy goes",
    act: async (w) => {
      await w.agent.etcd.kill();
      await w.agent.etcd.restart();
      await w.commit({ del: [more(84)], put: [friends("198.51.100.0/24"), gate()] });
    },
    closes: port84,
  },
];

/** As after a reboot with pods that were there before it: interfaces down, no rules, no sets. */
async function startFromNothing(w: FloodWorld): Promise<void> {
  await w.agent.stop("SIGKILL");
  for (const { ifname } of await w.host.ipJson<{ ifname: string }[]>("link show")) {
    if (ifname.startsWith("cali")) await w.host.ip(`link set ${ifname} down`);
  }
  for (const table of ["raw", "mangle", "nat", "filter"]) await clear(w, table);
  await w.host.runOk("ipset", ["destroy"]);
  await w.startAgent();
}

async function restart(world: FloodWorld, signal: Deno.Signal, between = async () => {}): Promise<void> {
  await world.agent.stop(signal);
  await between();
  await world.startAgent();
}

const clear = async (w: FloodWorld, table: string) => {
  for (const program of ["iptables", "ip6tables"]) {
    await w.host.runOk(`${program}-${w.variant}-restore`, ["-T", table], { stdin: `*${table}\nCOMMIT\n` });
  }
};

/** Somebody's hands. */
export const harmTransitions: Transition[] = [
  {
    name: "a chain of an endpoint is flushed",
    act: async (w) => w.iptables("-F", `cali-tw-${await w.interfaceOf("b")}`),
    harm: true,
  },
  { name: "our jump in FORWARD is deleted", act: (w) => w.iptables("-D", "FORWARD", "1"), harm: true },
  {
    name: "somebody accepts everything before us",
    act: (w) => w.iptables("-I", "FORWARD", "-j", "ACCEPT"),
    harm: true,
  },
  { name: "and takes it away", act: (w) => w.iptables("-D", "FORWARD", "-j", "ACCEPT"), harm: true },
  { name: "iptables -F", act: (w) => w.iptables("-F"), harm: true },
  { name: "the filter table is replaced by an empty one", act: (w) => clear(w, "filter"), harm: true },
  { name: "iptables -t raw -F", act: (w) => w.iptables("-t", "raw", "-F"), harm: true },
  { name: "iptables -t mangle -F", act: (w) => w.iptables("-t", "mangle", "-F"), harm: true },
  {
    name: "a set is flushed",
    act: async (w) => void await w.host.runOk("ipset", ["flush", await w.setWith("198.51.100.0/24")]),
    harm: true,
    steady: "denied",
  },
  {
    name: "a member is added to a set",
    act: async (w) => void await w.host.runOk("ipset", ["add", await w.setWith("198.51.100.0/24"), far.stranger]),
    harm: true,
  },
  {
    name: "iptables -F and ipset destroy",
    act: async (w) => {
      await w.iptables("-F");
      await w.host.run("ipset", ["destroy"]);
      await w.host.run("ipset", ["flush"]);
    },
    harm: true,
  },
];

/** Hands that take away what filter decides, or go before it: where filter is guarded, no denied packet passes by it. */
export const guardedTransitions: Transition[] = harmTransitions
  .filter(({ name }) => /^our jump|^somebody accepts|^and takes|^iptables -F$|^the filter table/.test(name))
  .map((t) => ({ ...t, steady: "denied" }));
