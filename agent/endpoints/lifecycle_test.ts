import { deepEqual, equal, match, notEqual, ok, rejects } from "node:assert/strict";
import fc from "fast-check";
import { parseIp } from "../../lib/ip.ts";
import { isProblem, Problem } from "../../lib/problem.ts";
import { prefixRange } from "../../datastore/store.ts";
import { addSteps } from "./request.ts";
import { addRequest, keyOf, TestNode, texts } from "./_test_node.ts";

const nothing = { addresses: [], handles: [], endpoints: [], links: [], journal: 0 };
const remove = (node: TestNode, request = addRequest("c1")) =>
  node.lifecycle.remove({ attachment: request.attachment, netns: request.netns, endpointKey: keyOf(request) });

/** Waits until nothing is held any more. */
async function empty(node: TestNode): Promise<void> {
  for (const end = performance.now() + 5_000;;) {
    const held = await node.held();
    if (JSON.stringify(held) === JSON.stringify(nothing)) return;
    if (performance.now() > end) deepEqual(held, nothing);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test("add() makes address, handle, endpoint and link, and names each step once; remove() takes all back", async () => {
  await using node = await TestNode.start();
  const added = await node.lifecycle.add(addRequest("c1"));
  equal(added.again, false);
  equal(added.addresses[0]!.block.len, 30);
  const held = await node.held();
  deepEqual([held.addresses, held.handles, held.links, held.journal], [["net.c1"], ["net.c1"], ["calic1"], 0]);
  deepEqual(node.steps.toSorted(), [...addSteps].toSorted());
  deepEqual(await remove(node), { etcd: "released" });
  deepEqual(await remove(node), { etcd: "nothing" });
  deepEqual(await node.held(), nothing);
});

Deno.test("an ADD costs one request, and so does a DEL", async () => {
  await using node = await TestNode.start();
  const requests = () => Object.entries(node.store.requests).reduce((n, [what, c]) => what === "watch" ? n : n + c, 0);
  const before = requests();
  await node.lifecycle.add(addRequest("c1"));
  equal(requests() - before, 1);
  await remove(node);
  equal(requests() - before, 2);
});

Deno.test("add() is undone whichever step fails", async () => {
  const faults: Record<string, (node: TestNode) => void> = {
    link: (node) => node.wiring.refuse = 1,
    kernel: (node) => node.enforced = () => Promise.reject(new Problem({ code: "kernel", what: "refused" })),
    etcd: (node) => node.store.failNext(1, () => new Problem({ code: "unauthorized", what: "no" })),
  };
  for (const [name, fault] of Object.entries(faults)) {
    await using node = await TestNode.start();
    fault(node);
    await rejects(node.lifecycle.add(addRequest("c1")), (e: unknown) => isProblem(e), name);
    deepEqual(await node.held(), nothing, name);
  }
});

Deno.test("the answer of etcd that is lost is found out, or undone by the journal", async () => {
  await using node = await TestNode.start();
  node.store.loseNextAnswer();
  await node.lifecycle.add(addRequest("c1"));
  node.store.loseNextAnswer();
  await remove(node);
  await empty(node);
});

Deno.test("while etcd is silent ADD says try again, DEL goes to the journal and is replayed", async () => {
  await using node = await TestNode.start();
  await node.lifecycle.add(addRequest("c1"));
  node.store.pause();
  await rejects(node.lifecycle.add(addRequest("c2")), (e: unknown) => isProblem(e, "unavailable", "not-ready"));
  deepEqual(await remove(node), { etcd: "journalled" });
  deepEqual([...node.wiring.pairs.keys()], [], "no link stays");
  ok(node.journal.held.size > 0);
  node.store.resume();
  await empty(node);
});

Deno.test("a re-created pod's endpoint is the newer sandbox's; the older one's DEL takes only its own address", async () => {
  await using node = await TestNode.start();
  const old = addRequest("old", { pod: "web" }), fresh = addRequest("new", { pod: "web" });
  const first = await node.lifecycle.add(old);
  const second = await node.lifecycle.add(fresh);
  notEqual(texts(first.addresses)[0], texts(second.addresses)[0]);
  equal(second.endpoint.metadata.uid, first.endpoint.metadata.uid, "the endpoint is the same one to others");
  deepEqual(await remove(node, old), { etcd: "released" });
  const held = await node.held();
  deepEqual([held.addresses, held.endpoints, held.links], [["net.new"], ["n1-k8s-web-eth0"], ["caliweb"]]);
  await remove(node, fresh);
  deepEqual(await node.held(), nothing);
});

Deno.test("what we don't know of an older endpoint stays, what the pod decides does not", async () => {
  await using node = await TestNode.start();
  const old = addRequest("old", { pod: "web", floatingIps: [parseIp("198.51.100.7")] });
  await node.lifecycle.add(old);
  const key = keyOf(old);
  const stored = JSON.parse((await node.store.get(key))!.value);
  stored.spec.novelty = { a: 1 };
  await node.store.txn({ compare: [], write: [{ put: key, value: JSON.stringify(stored) }] });
  const { endpoint } = await node.lifecycle.add(addRequest("new", { pod: "web" }));
  const after = JSON.parse((await node.store.get(key))!.value);
  deepEqual(after.spec.novelty, { a: 1 });
  deepEqual([after.spec.ipNATs, endpoint.spec.containerID], [undefined, "new"]);
});

Deno.test("somebody else's change of the endpoint between plan and transaction is taken up", async () => {
  const request = addRequest("c1", { pod: "web" });
  const key = keyOf(request);
  const value = JSON.stringify({
    kind: "WorkloadEndpoint",
    metadata: { name: "n1-k8s-web-eth0" },
    spec: { node: "n1" },
  });
  let writing: Promise<unknown> | undefined;
  const node: TestNode = await TestNode.start({
    step: (step) => {
      if (step === "planned") writing = node.store.txn({ compare: [], write: [{ put: key, value }] });
    },
  });
  await using _ = node;
  await node.lifecycle.add(request);
  ok((await writing as { committed: boolean }).committed);
  equal(JSON.parse((await node.store.get(key))!.value).spec.containerID, "c1");
  equal((await node.held()).addresses.length, 1);
});

Deno.test("concurrent ADDs of one attachment make one endpoint and answer alike", async () => {
  await using node = await TestNode.start();
  const [a, b] = await Promise.all([node.lifecycle.add(addRequest("c1")), node.lifecycle.add(addRequest("c1"))]);
  deepEqual(texts(a.addresses), texts(b.addresses));
  deepEqual([a.again, b.again], [false, true]);
  equal((await node.held()).addresses.length, 1);
});

Deno.test("a DEL overtakes the ADD of its container at every step, and wins", async () => {
  for (const at of addSteps.slice(0, -1)) {
    let removing: Promise<unknown> | undefined;
    const node: TestNode = await TestNode.start({
      step: (step) => {
        if (step === at) removing ??= remove(node);
      },
    });
    await using _ = node;
    await rejects(node.lifecycle.add(addRequest("c1")), (e: unknown) => isProblem(e, "conflict"), at);
    await removing;
    await empty(node);
  }
});

Deno.test("an ADD whose runtime gave up does not come true, at whatever step that is noticed", async () => {
  for (const at of addSteps.slice(0, -1)) {
    const gone = new AbortController();
    await using node = await TestNode.start({ step: (step) => void (step === at && gone.abort()) });
    const request = addRequest("c1");
    const asked = node.lifecycle.expect(request.attachment, gone.signal);
    await rejects(node.lifecycle.add(request, asked), (e: unknown) => isProblem(e, "conflict"), at);
    await empty(node);
  }
});

Deno.test("a DEL that comes while its ADD is still being prepared wins", async () => {
  await using node = await TestNode.start();
  const request = addRequest("c1");
  const asked = node.lifecycle.expect(request.attachment);
  await remove(node);
  await rejects(node.lifecycle.add(request, asked), (e: unknown) => isProblem(e, "conflict"));
  await empty(node);
  await node.lifecycle.add(request); // the next one is another matter
});

Deno.test("two pods of one host interface name: the second is refused, the first lives", async () => {
  await using node = await TestNode.start();
  const first = addRequest("c1", { pod: "web" });
  await node.lifecycle.add(first);
  const second = addRequest("c2", { pod: "other" });
  second.endpoint.spec.interfaceName = "caliweb";
  await rejects(
    node.lifecycle.add(second),
    (e: unknown) => isProblem(e, "exists") && /belongs to default/.test(e.what),
  );
  deepEqual((await node.held()).addresses, ["net.c1"]);
  // A link that no endpoint owns is left over, and replaced.
  await node.wiring.connect({ netns: "/gone", interfaceName: "x", hostInterface: "calic3", mac: "m", addresses: [] });
  await node.lifecycle.add(addRequest("c3"));
});

Deno.test("collect() takes from vanished containers only", async () => {
  await using node = await TestNode.start();
  for (const id of ["a", "b"]) await node.lifecycle.add(addRequest(id));
  const other = addRequest("c");
  other.attachment = { ...other.attachment, network: "net.more" };
  await node.lifecycle.add(other);
  deepEqual(await node.lifecycle.collect("net", [{ containerId: "a", interfaceName: "eth0" }]), []);
  deepEqual((await node.held()).addresses.toSorted(), ["net.a", "net.more.c"]);
});

Deno.test("check() finds an address that IPAM has given to nobody, or to another", async () => {
  await using node = await TestNode.start();
  const { addresses } = await node.lifecycle.add(addRequest("c1"));
  const request = addRequest("c1");
  const check = () =>
    node.lifecycle.check({
      ...{ attachment: request.attachment, netns: request.netns, endpointKey: keyOf(request), hostInterface: "calic1" },
    });
  deepEqual(await check(), []);
  const [block] = (await node.store.read([prefixRange("/calico/ipam/v2/assignment/")])).values.values();
  const stored = JSON.parse(block!.value);
  stored.attributes[0].handle_id = "net.other";
  const write = [{ put: block!.key, value: JSON.stringify(stored) }];
  const { revision } = await node.store.txn({ compare: [], write });
  while (node.mirror.revision < revision) await new Promise((resolve) => setTimeout(resolve, 1));
  deepEqual(await check(), [`IPAM has ${texts(addresses)[0]} under net.other, not under net.c1`]);
});

Deno.test("readiness() says why not", async () => {
  await using node = await TestNode.start({ blockSize: 30 });
  const wish = { v4: true, v6: false, pools4: [], pools6: [] };
  deepEqual(node.lifecycle.readiness(wish), { ready: true });
  for (let i = 0; i < 16; i++) await node.lifecycle.add(addRequest(`f${i}`));
  const full = node.lifecycle.readiness(wish);
  match(full.ready ? "" : full.why, /IP/);
  deepEqual(node.lifecycle.readiness(undefined), { ready: true });
});

Deno.test("whatever fails, in any order, nothing is left when all containers are gone", async () => {
  const step = fc.record({
    do: fc.constantFrom("add", "del", "add", "restart"),
    id: fc.constantFrom("c1", "c2", "c3"),
    fault: fc.constantFrom("", "", "link", "kernel", "lost", "silent"),
    wait: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
      await using node = await TestNode.start();
      const running: Promise<unknown>[] = [];
      for (const s of steps) {
        node.enforced = () =>
          s.fault === "kernel" ? Promise.reject(new Problem({ code: "kernel", what: "no" })) : Promise.resolve();
        node.wiring.refuse = s.fault === "link" ? 1 : 0;
        if (s.fault === "lost") node.store.loseNextAnswer();
        if (s.fault === "silent") node.store.pause();
        const request = addRequest(s.id, { pod: "web" });
        const call = s.do === "add"
          ? node.lifecycle.add(request)
          : s.do === "del"
          ? remove(node, request)
          : node.end().then(() => node.store.resume()).then(() => node.begin());
        running.push(call.catch((error) => {
          if (!isProblem(error)) throw error;
        }));
        if (s.wait || s.do === "restart") await Promise.all(running);
        if (s.fault === "silent") node.store.resume();
      }
      await Promise.all(running);
      for (const id of ["c1", "c2", "c3"]) await remove(node, addRequest(id, { pod: "web" }));
      await empty(node);
    }),
    { numRuns: 40 },
  );
});
