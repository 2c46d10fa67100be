import assert from "node:assert/strict";
import { serveApi, startApiServer } from "../lab/api_server.ts";
import { cniConfDir, startContainerd } from "../lab/containerd.ts";
import { startEtcd } from "../lab/etcd.ts";
import { makeHosts } from "../lab/hosts.ts";
import { makeImage } from "../lab/image.ts";

const options = { sanitizeOps: false, sanitizeResources: false };

Deno.test("startEtcd() answers with its data after kill -9 and restart", async () => {
  await using etcd = await startEtcd();
  await etcd.etcdctl("put", "/a", "1");
  await etcd.restart();
  assert.deepEqual(await etcd.dump("/"), new Map([["/a", "1"]]));
});

Deno.test("startEtcd() with TLS and auth refuses who has no certificate or password", async () => {
  await using etcd = await startEtcd({ tls: true, auth: true });
  await etcd.etcdctl("put", "/a", "1");
  const ca = await Deno.readTextFile(etcd.tls!.caFile);
  using client = Deno.createHttpClient({ caCerts: [ca] });
  await assert.rejects(fetch(`${etcd.endpoint}/version`, { client }));
});

Deno.test("the API server lists, watches from a version, filters by node, and asks for its token", async () => {
  const dir = await Deno.makeTempDir({ prefix: "lab-api-" });
  await using api = await serveApi(dir);
  using client = Deno.createHttpClient({ caCerts: [await Deno.readTextFile(api.caFile)] });
  const headers = { authorization: `Bearer ${api.token}` };
  const refused = await fetch(`${api.url}/api/v1/pods`, { client });
  assert.equal(refused.status, 401);
  await refused.body?.cancel();
  await api.put({ kind: "Pod", metadata: { name: "a", namespace: "shop" }, spec: { nodeName: "h1" } });
  await api.put({ kind: "Pod", metadata: { name: "b", namespace: "shop" }, spec: { nodeName: "h2" } });
  const list = await (await fetch(`${api.url}/api/v1/pods?fieldSelector=spec.nodeName%3Dh1`, { client, headers }))
    .json();
  assert.deepEqual(list.items.map((p: { metadata: { name: string } }) => p.metadata.name), ["a"]);
  const query =
    `watch=true&fieldSelector=spec.nodeName%3Dh1&timeoutSeconds=1&resourceVersion=${list.metadata.resourceVersion}`;
  const watch = await fetch(`${api.url}/api/v1/pods?${query}`, { client, headers });
  await api.put({ kind: "Pod", metadata: { name: "c", namespace: "shop" }, spec: { nodeName: "h1" } });
  await api.put({ kind: "Pod", metadata: { name: "d", namespace: "shop" }, spec: { nodeName: "h2" } });
  await api.delete("pods", "shop", "a");
  const events = (await watch.text()).trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(events.map((e) => [e.type, e.object.metadata.name]), [["ADDED", "c"], ["DELETED", "a"]]);
  await Deno.remove(dir, { recursive: true });
});

Deno.test({
  name: "pods of real containerds on two hosts reach each other through the reference plugins",
  ...options,
  fn: async () => {
    await using lab = await makeHosts(2, { prefix: "h7" });
    await using api = await startApiServer({
      ...{ dir: `${lab.dir}/api`, netns: lab.wire.name, address: lab.serverAddress, port: 6443 },
    });
    await api.put({ kind: "Namespace", metadata: { name: "shop" } });
    const image = await makeImage(lab.dir);
    const pods = await Promise.all(lab.hosts.map(async (host, i) => {
      const runtime = await startContainerd(host, image, lab.prefix);
      const ipam = { type: "host-local", subnet: `10.22.${i}.0/24`, routes: [{ dst: "0.0.0.0/0" }] };
      const network = { cniVersion: "1.0.0", name: "x", plugins: [{ type: "ptp", ipam }] };
      await Deno.writeTextFile(host.path(`${cniConfDir}/10-x.conflist`), JSON.stringify(network));
      const other = lab.hosts[1 - i]!;
      await host.runOk("ip", ["route", "add", `10.22.${1 - i}.0/24`, "via", other.address]);
      const pod = await runtime.runPod({ namespace: "shop", name: `web-${i}`, uid: crypto.randomUUID() });
      await pod.start(["httpd", "-f", "-p", "80", "-h", "/etc"]);
      return pod;
    }));
    const answer = await pods[0]!.exec(["wget", "-qO-", `http://${pods[1]!.addresses[0]}/hostname`]);
    assert.deepEqual(answer, { code: 0, stdout: "web-1\n", stderr: "" });
    for (const pod of pods) await pod.remove();
  },
});
