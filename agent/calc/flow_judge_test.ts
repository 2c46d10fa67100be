import assert from "node:assert/strict";
import type { Resource } from "../../datastore/kind.ts";
import { parseIp } from "../../lib/ip.ts";
import { FlowJudge, type JudgedFlow } from "./flow_judge.ts";
import { Graph } from "./graph.ts";

const resource = (kind: string, name: string, spec: unknown, metadata: object = {}): Resource =>
  ({ apiVersion: "projectcalico.org/v3", kind, metadata: { name, ...metadata }, spec }) as unknown as Resource;
const endpoint = (name: string, ip: string, node = "n1"): Resource =>
  resource(
    "WorkloadEndpoint",
    name,
    { node, ipNetworks: [`${ip}/32`], interfaceName: `cali${name}`, profiles: ["p"] },
    {
      ...{ namespace: "shop", labels: { app: name, "projectcalico.org/namespace": "shop" } },
    },
  );
const open = resource("Profile", "p", { ingress: [{ action: "Allow" }], egress: [{ action: "Allow" }] });
const policy = (rules: unknown[], app = "web"): Resource =>
  resource("NetworkPolicy", "only", { selector: `app == '${app}'`, types: ["Ingress"], ingress: rules }, {
    namespace: "shop",
  });
const flow = (src: string, dst: string, dstPort: number, protocol = 6): JudgedFlow => ({
  ...{ src: parseIp(src), dst: parseIp(dst), protocol, srcPort: 40_000, dstPort },
});
const own = [parseIp("192.0.2.1")];

function world() {
  const graph = new Graph({ node: "n1" });
  graph.update([open, endpoint("web", "10.1.0.1"), endpoint("db", "10.1.0.2"), endpoint("far", "10.2.0.1", "n2")]
    .map((set) => ({ set })));
  graph.flush();
  return { graph, judge: new FlowJudge(graph.snapshot()) };
}

Deno.test("a flow is denied when its workload may not get it any more, and only that", () => {
  const { graph, judge } = world();
  assert.equal(judge.denies(flow("10.2.0.1", "10.1.0.1", 80), own), false);
  graph.update([{ set: policy([{ action: "Allow", protocol: "TCP", destination: { ports: [443] } }]) }]);
  judge.update(graph.flush());
  assert.equal(judge.denies(flow("10.2.0.1", "10.1.0.1", 80), own), true);
  assert.equal(judge.denies(flow("10.2.0.1", "10.1.0.1", 443), own), false);
  assert.equal(judge.denies(flow("10.1.0.1", "10.2.0.1", 80), own), false, "what it sends is not asked about");
  assert.equal(judge.denies(flow("192.0.2.1", "10.1.0.1", 80), own), false, "the host reaches its workloads");
  assert.equal(judge.denies(flow("10.2.0.1", "10.2.0.9", 80), own), false, "no workload of ours");
});

Deno.test("a flow is denied when its workload may not send it, also to the host itself", () => {
  const { graph, judge } = world();
  graph.update([{ set: resource("GlobalNetworkPolicy", "quiet", { selector: "app == 'db'", types: ["Egress"] }) }]);
  judge.update(graph.flush());
  assert.equal(judge.denies(flow("10.1.0.2", "10.1.0.1", 80), own), true);
  assert.equal(judge.denies(flow("10.1.0.2", "192.0.2.1", 22), own), true);
  assert.equal(judge.denies(flow("10.1.0.1", "10.1.0.2", 80), own), false);
});

Deno.test("a judge that begins late knows the same as one that followed from the start", () => {
  const { graph, judge } = world();
  const selector = { source: { selector: "app == 'db'" } };
  for (const action of ["Allow", "Deny"]) {
    graph.update([{ set: policy([{ action, ...selector }]) }]);
    judge.update(graph.flush());
    const late = new FlowJudge(graph.snapshot());
    for (const src of ["10.1.0.2", "10.2.0.1"]) {
      const one = flow(src, "10.1.0.1", 80);
      assert.equal(late.denies(one, own), judge.denies(one, own), `${action} ${src}`);
      assert.equal(late.denies(one, own), action === "Deny" || src === "10.2.0.1");
    }
  }
});
