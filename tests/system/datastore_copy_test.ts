/** `tortie ctl datastore migrate copy`: from the store of one host to a real etcd. */
import assert from "node:assert/strict";
import { run, runOk } from "../../lib/process.ts";
import { startEtcd } from "../lab/etcd.ts";
import { startStoreProcess } from "../lab/store.ts";
import { binary } from "../lab/tortie.ts";

Deno.test("a store's data goes to etcd, the old one is locked and the new one open; a second copy changes nothing", async () => {
  await using store = await startStoreProcess();
  await using etcd = await startEtcd({ server: "etcd" });
  const ctl = (endpoints: string, words: string[], stdin?: string) =>
    run(binary, ["ctl", ...words], { env: { ETCD_ENDPOINTS: endpoints }, stdin });
  const key = "/calico/resources/v3/projectcalico.org/clusterinformations/default";
  const info =
    '{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"u",' +
    '"creationTimestamp":"2026-01-01T00:00:00Z"},"spec":{"clusterGUID":"0123456789abcdef","datastoreReady":true}}';
  await runOk("etcdctl", ["--endpoints", store.socketEndpoint, "put", key, info], { env: { ETCDCTL_API: "3" } });
  const pools = Array.from(
    { length: 200 },
    (_, i) =>
      `---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: s${i}}\nspec: {nets: [10.${i}.0.0/16]}\n`,
  );
  assert.equal((await ctl(store.socketEndpoint, ["apply", "-f", "-"], pools.join(""))).code, 0);

  const same = await ctl(store.socketEndpoint, ["datastore", "migrate", "copy", "--to", store.endpoint]);
  assert.match(same.stderr, /the new datastore is the one that is in use/);
  const copy = () => ctl(store.socketEndpoint, ["datastore", "migrate", "copy", "--to", etcd.endpoint]);
  const done = await copy();
  assert.equal(done.code, 0, done.stderr);
  const copied = Number(/^Datastore locked.*Copied (\d+) keys, 0 were there already/s.exec(done.stdout)?.[1]);
  assert.ok(copied >= 400, "200 objects and their histories");
  const list = async (endpoints: string) => (await ctl(endpoints, ["get", "globalnetworksets", "-o", "yaml"])).stdout;
  const plain = (text: string) => text.replace(/resourceVersion: .*/g, "");
  assert.equal(plain(await list(etcd.endpoint)), plain(await list(store.socketEndpoint)));
  const ready = async (endpoints: string) =>
    (await ctl(endpoints, ["get", "clusterinformation", "default", "-o", "yaml"])).stdout;
  assert.match(await ready(etcd.endpoint), /datastoreReady: true/);
  assert.match(await ready(store.socketEndpoint), /datastoreReady: false/);
  assert.ok((await copy()).stdout.includes(`Copied 0 keys, ${copied} were there already`));

  await ctl(etcd.endpoint, ["delete", "globalnetworkset", "s1"]);
  await ctl(etcd.endpoint, ["apply", "-f", "-"], pools[2]!.replace("10.2.0.0", "10.250.0.0"));
  const refused = await copy();
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /the target holds what the source does not: .*s2/);
});
