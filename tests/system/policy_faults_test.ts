import assert from "node:assert/strict";
import { apiVersion, type Resource, resourcePrefix } from "../../datastore/kind.ts";
import { wait } from "../lab/wait.ts";
import { AgentNetwork } from "../packets/agent_network.ts";
import type { JudgedPod } from "../packets/kubernetes_semantics.ts";

/** A namespace as long as Kubernetes allows; policies may have names of 253. */
const long = { namespace: "n".repeat(63), policy: `default.${"p".repeat(245)}` };
const plans: JudgedPod[] = [
  { namespace: "red", labels: { app: "x" }, ports: [] },
  { namespace: long.namespace, labels: { app: "x" }, ports: [] },
];
const object = (kind: string, name: string, spec: object, namespace?: string): Resource => ({
  apiVersion,
  kind,
  metadata: { name, ...(namespace && { namespace }) },
  spec: spec as Resource["spec"],
});
const allowing = (port: number) => ({
  tier: "default",
  selector: "app == 'x'",
  types: ["Ingress"],
  ingress: [{ action: "Allow", protocol: "UDP", destination: { ports: [port] } }],
});

/** What another program, or a hand, may leave in the place of an object. */
const unreadable: Record<string, string> = {
  "cut off": '{"kind":"NetworkPolicy","spec":{',
  "a list": "[]",
  "a text": '"text"',
  "nothing": "",
  "a number": "7",
  "a number as spec": '{"apiVersion":"projectcalico.org/v3","kind":"X","metadata":{"name":"x"},"spec":5}',
};
/** An object of each kind that policy reads, which shows in the kernel by a word. */
const shown: Record<string, { plural: string; namespace?: string; make(word: number): Resource[] }> = {
  NetworkPolicy: {
    plural: "networkpolicies/red/",
    make: (port) => [object("NetworkPolicy", "default.kept", allowing(port), "red")],
  },
  GlobalNetworkPolicy: {
    plural: "globalnetworkpolicies/",
    make: (port) => [object("GlobalNetworkPolicy", "default.kept", allowing(port))],
  },
  Profile: {
    plural: "profiles/",
    make: (port) => [object("Profile", "kns.red", { ingress: allowing(port).ingress })],
  },
  GlobalNetworkSet: {
    plural: "globalnetworksets/",
    make: (n) => [
      { ...object("GlobalNetworkSet", "kept", { nets: [`198.51.${n % 256}.0/24`] }), ...labelled("kept", "set") },
      object("GlobalNetworkPolicy", "default.looks", {
        ...{ tier: "default", selector: "all()", types: ["Ingress"] },
        ingress: [{ action: "Allow", source: { selector: "is == 'set'" } }],
      }),
    ],
  },
};
const labelled = (name: string, is: string) => ({ metadata: { name, labels: { is } } });
const wordOf = (kind: string, word: number) =>
  kind === "GlobalNetworkSet" ? `198.51.${word % 256}.0/24` : `dports ${word} `;

/** Everything of IPv4 policy in the kernel, as text. */
const kernelOf = async ({ world: { host } }: AgentNetwork): Promise<string> =>
  await host.runOk("iptables-legacy-save", []) + await host.runOk("ipset", ["save"]);
const shows = (network: AgentNetwork, what: string, ...words: string[]): Promise<unknown> =>
  wait(what, async () => {
    const text = await kernelOf(network);
    return words.every((word) => text.includes(word));
  }, { everyMs: 30 });
/** What the agent says is not in force. */
const said = async ({ world }: AgentNetwork): Promise<string> =>
  JSON.stringify((await world.get("/v1/status")).body) + world.log();

Deno.test("faults in the datastore, with the real agent", async (t) => {
  await using network = await AgentNetwork.make("tk", plans);
  const { etcd } = network.world;
  const put = (key: string, value: string) => etcd.etcdctl("put", "--", resourcePrefix + key, value);
  const step = (name: string, work: () => Promise<void>) => t.step(name, work);
  await network.commit([object("Tier", "default", { order: 1_000_000, defaultAction: "Deny" })]);
  let port = 3000;

  for (const [kind, { plural, make }] of Object.entries(shown)) {
    await step(
      `a ${kind} whose value cannot be read keeps its last good version, is named, and stops no other`,
      async () => {
        const name = kind === "Profile" ? "kns.red" : kind === "GlobalNetworkSet" ? "kept" : "default.kept";
        for (const [how, value] of Object.entries(unreadable)) {
          const before = ++port, other = ++port;
          await network.commit(make(before));
          await shows(network, `${kind} ${before}`, wordOf(kind, before));
          await put(plural + name, value);
          // What comes later is in force: of this kind, and of another.
          const later = object("GlobalNetworkPolicy", "default.later", allowing(other));
          await network.commit([later]);
          await shows(network, `what comes after ${how}`, wordOf("", other), wordOf(kind, before));
          assert.ok((await said(network)).includes(name), `${how}: nobody says ${name}`);
        }
      },
    );
  }

  await step("an agent that starts with such values is in sync, enforces the others and serves pods", async () => {
    await network.world.stop("SIGKILL");
    for (const [how, value] of Object.entries(unreadable)) {
      const name = how.replaceAll(" ", "-");
      for (const plural of ["networkpolicies/red/", "globalnetworkpolicies/", "tiers/", "globalnetworksets/"]) {
        await put(plural + name, value);
      }
    }
    // A network set that could never be read: who denies by it denies everybody, who allows by it nobody.
    const half = { kind: "GlobalNetworkSet", metadata: { name: "half", labels: { is: "half" } }, spec: { nets: 7 } };
    await put("globalnetworksets/half", JSON.stringify(half));
    const byHalf = (action: string, ports: number[]) => ({
      action,
      protocol: "UDP",
      source: { selector: "is == 'half'" },
      destination: { ports },
    });
    const deny = ++port, allow = ++port;
    const by = { tier: "default", selector: "app == 'x'", types: ["Ingress"] };
    const judging = { ...by, ingress: [byHalf("Deny", [deny]), byHalf("Allow", [allow])] };
    await network.commit([
      object("GlobalNetworkPolicy", "default.half", judging),
      object("GlobalNetworkPolicy", "default.later", allowing(++port)),
    ]);
    await network.world.start();
    await shows(network, "a policy beside unreadable ones", wordOf("", port), wordOf("", deny), wordOf("", allow));
    const lines = (await kernelOf(network)).split("\n");
    const looksIntoSet = (p: number) => lines.find((l) => l.includes(wordOf("", p)))?.includes("--match-set");
    assert.deepEqual([looksIntoSet(deny), looksIntoSet(allow)], [false, true]);
    assert.match(await said(network), /GlobalNetworkSet:half/);
    const space = await network.world.pod();
    const answer = await network.world.call({
      ...{ command: "ADD", containerId: "late", netns: space.path },
      config: {
        ...{ name: "net", type: "calico", cniVersion: "1.0.0", nodename: "alder", nodename_file_optional: true },
        ipam: { type: "calico-ipam" },
      },
    });
    assert.equal(answer.code, 0, answer.stdout);
  });

  await step("a policy with an impossible port stays as it was, and is named", async () => {
    const odd = (p: number) => object("GlobalNetworkPolicy", "default.odd", allowing(p));
    await network.commit([odd(++port)]);
    await shows(network, "the policy", wordOf("", port));
    await network.commit([odd(99_999), object("GlobalNetworkPolicy", "default.later", allowing(port + 1))]);
    await shows(network, "the one after it", wordOf("", port), wordOf("", ++port));
    assert.match(
      await said(network),
      /default\.odd","why":"spec\.ingress\[0\]\.destination\.ports\[0\]: number cannot/,
    );
  });

  await step("names as long as they may be are enforced", async () => {
    await network.commit([object("NetworkPolicy", long.policy, allowing(++port), long.namespace)]);
    await shows(network, "the policy with a long name", wordOf("", port));
    const chain = new RegExp(`^-A (cali-pi-_\\S+) .*dports ${port} `, "m").exec(await kernelOf(network))![1]!;
    assert.equal(chain.length, 28);
    const pod = String(network.endpoints[1]!.spec.interfaceName);
    assert.match(await kernelOf(network), new RegExp(`^-A cali-tw-${pod} .*-j ${chain}$`, "m"));
  });

  await step("a missing tier is named with its policies until it exists; they come last and end in deny", async () => {
    await network.commit([object("GlobalNetworkPolicy", "gone.first", { ...allowing(++port), tier: "gone" })]);
    await shows(network, "the policy of a missing tier", wordOf("", port));
    const word = "there is no such tier; these apply last and end in deny: ";
    await wait("the missing tier to be named", async () => (await said(network)).includes(word));
    assert.match(await said(network), /"Tier:gone".*gone\.first/);
    const chains = await kernelOf(network), pod = String(network.endpoints[0]!.spec.interfaceName);
    const order = [...chains.matchAll(new RegExp(`^-A cali-tw-${pod} .*End of tier (\\S+)\\.`, "gm"))].map((m) => m[1]);
    assert.deepEqual(order, ["default", "gone"]);
    await network.commit([object("Tier", "gone", { order: 5, defaultAction: "Pass" })]);
    await wait("the tier to be in force", () => network.world.log().includes("object is in force again"));
    const again = await wait("the tier to come first", async () => {
      const text = await kernelOf(network);
      const lines = text.split("\n").filter((l) => l.startsWith(`-A cali-tw-${pod} `) && l.includes("Start of tier"));
      return lines[0]?.includes("gone") ? lines : undefined;
    });
    assert.ok(again.length >= 2);
  });

  await step("settings of Felix change while the same process runs", async () => {
    const { pid } = network.world;
    const setting = (spec: object) => network.commit([object("FelixConfiguration", "default", spec)]);
    await setting({ defaultEndpointToHostAction: "Accept", iptablesFilterDenyAction: "Reject" });
    await shows(network, "the settings", "reject-with icmp-port-unreachable");
    await wait(
      "the action towards the host",
      async () =>
        /^-A cali-wl-to-host .*Configured DefaultEndpointToHostAction.* -j ACCEPT$/m.test(await kernelOf(network)),
    );
    await setting({ iptablesMarkMask: 0xff000000 });
    await wait("other marks, and the usual answer to what is denied", async () => {
      const text = await kernelOf(network);
      const marks = text.includes("--set-xmark 0x1000000/0x1000000") && !/mark 0x10000\//.test(text);
      return marks && !text.includes("reject-with");
    });
    assert.equal(network.world.pid, pid);
    assert.ok((await network.world.get("/v1/status")).status === 200);
  });
});
