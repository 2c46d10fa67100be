import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { parseIp } from "../lib/ip.ts";
import { resourceKey } from "../datastore/keys.ts";
import { guardKey, readPending, undoPending } from "../datastore/pending.ts";
import { LastingStore, memoryCtl } from "./_memory_ctl.ts";
import type { Session } from "./session.ts";
import type { Surroundings } from "./surroundings.ts";

const apiVersion = "projectcalico.org/v3";
const yaml = (...objects: object[]) => objects.map((o) => JSON.stringify({ apiVersion, ...o })).join("\n---\n");
const hostEndpoint = {
  kind: "HostEndpoint",
  metadata: { name: "n1-eth0", labels: { host: "n1" } },
  spec: { node: "n1", interfaceName: "eth0" },
};
const policy = (...ports: number[]) => ({
  kind: "GlobalNetworkPolicy",
  metadata: { name: "web" },
  spec: {
    selector: "host == 'n1'",
    types: ["Ingress", "Egress"],
    ingress: ports.map((port) => ({ action: "Allow", protocol: "TCP", destination: { ports: [port] } })),
    egress: [{ action: "Allow" }],
  },
});
const session: Session = {
  client: parseIp("203.0.113.7"),
  clientPort: 50122,
  server: parseIp("192.0.2.1"),
  serverPort: 2222,
  interfaceName: "eth0",
};

/** A cluster of one node, whose operator works in an ssh session through port 2222, which is no failsafe. */
async function makeWorld(more: Partial<Surroundings> = {}) {
  const clock = new FakeClock(), store = new LastingStore({ clock });
  let number = 0;
  const surroundings: Partial<Surroundings> = {
    ...{ clock, uuid: () => `${++number}`.padStart(8, "0"), session: () => Promise.resolve(session) },
    author: () => ({ user: "ann", host: "n1", from: "203.0.113.7" }),
    ...more,
  };
  const ctl = (text: string, ...args: string[]) =>
    memoryCtl(store, args, { ...surroundings, stdin: () => Promise.resolve(text) });
  const node = {
    kind: "Node",
    metadata: { name: "n1" },
    spec: { bgp: { ipv4Address: "192.0.2.1/24" }, interfaces: [{ name: "eth0", addresses: ["192.0.2.1"] }] },
  };
  const made = await ctl(yaml(node), "apply", "-f", "-");
  assert.equal(made.code, 0, made.text);
  await store.txn({ compare: [], write: [{ put: guardKey("n1"), value: "" }] });
  const has = (kind: string, name: string) => store.contents().has(resourceKey(kind, name));
  return { clock, store, ctl, has };
}

const cut = /would cut your own session: ssh from 203\.0\.113\.7 to port 2222 of host n1: .*\(HostEndpoint:n1-eth0\)/;

Deno.test("a change that would cut the session that makes it is refused, by whichever command it comes", async () => {
  const { ctl, has } = await makeWorld();
  for (const verb of ["apply", "create"]) {
    const { code, text } = await ctl(yaml(hostEndpoint), verb, "-f", "-");
    assert.equal(code, 1);
    assert.match(text, cut);
    assert.equal(has("HostEndpoint", "n1-eth0"), false);
  }
  const { code, text } = await ctl(yaml(hostEndpoint, policy(2222)), "apply", "-f", "-");
  assert.equal(code, 0, `${text}: what goes well as a whole is not judged by its parts`);
  const attempts = [
    ["", "delete", "gnp", "web"],
    ["", "patch", "gnp", "web", "-p", '{"spec": {"ingress": []}}'],
    ["", "patch", "gnp", "web", "-p", '{"spec": {"selector": "host == \'n2\'"}}'],
    [yaml(policy(80)), "replace", "-f", "-"],
    [yaml(policy(80)), "apply", "-f", "-"],
  ] as const;
  for (const [input, ...args] of attempts) assert.match((await ctl(input, ...args)).text, cut, args.join(" "));
  assert.equal((await ctl("", "label", "hep", "n1-eth0", "host=n2", "--overwrite")).code, 1);
  const failsafes = {
    kind: "FelixConfiguration",
    metadata: { name: "default" },
    spec: { failsafeInboundHostPorts: [] },
  };
  assert.match(
    (await ctl(yaml(failsafes), "diff", "-f", "-")).text,
    /203\.0\.113\.254 -> host n1: .*UDP 68.*: ALLOWED -> DENIED/,
  );
  assert.equal((await ctl("", "delete", "gnp", "web", "--force")).code, 0);
});

Deno.test("who has no session, or whose session stays open, is not refused", async () => {
  const atConsole = await makeWorld({ session: () => Promise.resolve(undefined) });
  assert.equal((await atConsole.ctl(yaml(hostEndpoint), "apply", "-f", "-")).code, 0);
  const failsafe = await makeWorld({ session: () => Promise.resolve({ ...session, serverPort: 22 }) });
  assert.equal((await failsafe.ctl(yaml(hostEndpoint), "apply", "-f", "-")).code, 0);
  const elsewhere = await makeWorld({
    session: () => Promise.resolve({ ...session, server: parseIp("198.51.100.9") }),
  });
  assert.equal((await elsewhere.ctl(yaml(hostEndpoint), "apply", "-f", "-")).code, 0);
});

Deno.test("a change that would cut a host from the datastore is refused", async () => {
  const env = (name: string) => ({ DATASTORE_TYPE: "etcdv3", ETCD_ENDPOINTS: "http://198.51.100.1:4001" })[name];
  const { ctl } = await makeWorld({ env, session: () => Promise.resolve(undefined) });
  const closed = { ...policy(), spec: { ...policy().spec, egress: [] } };
  const { code, text } = await ctl(yaml(hostEndpoint, closed), "apply", "-f", "-");
  assert.equal(code, 1);
  assert.match(text, /would cut host n1 from the datastore at http:\/\/198\.51\.100\.1:4001: /);
  const unreachable = await ctl(yaml(hostEndpoint, closed), "apply", "-f", "-", "--confirm", "60s");
  assert.match(unreachable.text, /cannot be told of an undo/);
  assert.equal((await ctl(yaml(hostEndpoint, policy()), "apply", "-f", "-")).code, 0);
});

Deno.test("apply --confirm says what it cuts, and is confirmed, listed, undone by name", async () => {
  const { store, ctl, has, clock } = await makeWorld();
  const first = await ctl(yaml(hostEndpoint), "apply", "-f", "-", "--confirm", "60s");
  assert.equal(first.code, 0);
  assert.match(first.text, /this cuts your own session/);
  const [, id] = /change (\S+) is undone in 60 s unless you confirm it: tortie ctl confirm/.exec(first.text)!;
  assert.match(
    (await ctl("", "confirm", "--list")).text,
    new RegExp(`${id}  about 60 s left, by ann from 203.0.113.7 on n1`),
  );
  assert.equal((await ctl("", "confirm", "nonsense")).code, 1);
  assert.equal((await ctl("", "confirm", id!, "--undo")).code, 0);
  assert.equal(has("HostEndpoint", "n1-eth0"), false);
  const second = await ctl(yaml(hostEndpoint, policy(2222)), "apply", "-f", "-", "--confirm", "1m");
  assert.equal(second.code, 0);
  assert.match((await ctl(yaml(policy(80)), "apply", "-f", "-", "--confirm", "60s")).text, /is not confirmed yet/);
  const other = { kind: "GlobalNetworkSet", metadata: { name: "s" }, spec: { nets: ["10.0.0.0/8"] } };
  const third = await ctl(yaml(other), "apply", "-f", "-", "--confirm", "60");
  assert.match((await ctl("", "confirm")).text, /2 changes wait to be confirmed/);
  const ids = [second, third].map(({ text }) => /change (\S+) is/.exec(text)![1]!);
  for (const one of ids) assert.equal((await ctl("", "confirm", one)).text, `change ${one} stays\n`);
  await clock.advance(120_000);
  assert.deepEqual([await readPending(store), has("HostEndpoint", "n1-eth0")], [[], true]);
  assert.match((await ctl("", "confirm")).text, /no change waits/);
});

Deno.test("apply --confirm writes all or nothing, and refuses times that are none", async () => {
  const { ctl, has } = await makeWorld();
  const bad = { kind: "GlobalNetworkSet", metadata: { name: "s" }, spec: { nets: ["nonsense"] } };
  const { code, text } = await ctl(yaml(hostEndpoint, bad), "apply", "-f", "-", "--confirm", "60s");
  assert.deepEqual([code, has("HostEndpoint", "n1-eth0")], [1, false]);
  assert.match(text, /failed to apply any resources/);
  for (const time of ["0", "4s", "2h", "-1", "61m", "soon", ""]) {
    assert.match((await ctl("", "apply", "-f", "-", "--confirm", time)).text, /not a time from 5s to 3600s/, time);
  }
});

/** Lets a command on a terminal run, a second at a time, until it ends. */
async function runOut(
  clock: FakeClock,
  command: Promise<{ code: number; text: string }>,
  most: number,
  each = () => {},
) {
  let done = false;
  const ended = command.finally(() => done = true);
  for (let i = 0; i < most && !done; i++) {
    await clock.advance(1_000);
    for (let j = 0; j < 200; j++) await Promise.resolve();
    each();
  }
  assert.ok(done, "it ended");
  return await ended;
}

Deno.test("on a terminal the time that is left is told, and nobody else being there it is undone from there", async () => {
  const { clock, store, ctl, has } = await makeWorld({ terminal: true });
  const { code, text } = await runOut(clock, ctl(yaml(hostEndpoint), "apply", "-f", "-", "--confirm", "10s"), 30);
  assert.match(
    text,
    /10 s left to confirm.*K3 s left to confirm.*was undone at .*: HostEndpoint\(n1-eth0\) as before/s,
  );
  assert.deepEqual([code, has("HostEndpoint", "n1-eth0"), await readPending(store)], [1, false, []]);
});

Deno.test("on a terminal a confirmation and another's undo from elsewhere are seen", async () => {
  const { clock, store, ctl, has } = await makeWorld({ terminal: true });
  let ticks = 0;
  const undo = async () => {
    const [found] = await readPending(store);
    if (++ticks === 3) await undoPending(store, found!, { user: "tortie", host: "n1" }, "2026-01-01T00:00:00Z");
  };
  const undone = await runOut(clock, ctl(yaml(hostEndpoint), "apply", "-f", "-", "--confirm", "60s"), 10, undo);
  assert.deepEqual([undone.code, has("HostEndpoint", "n1-eth0")], [1, false]);
  const confirm = () => void (++ticks === 10 && ctl("", "confirm"));
  ticks = 5;
  const kept = await runOut(clock, ctl(yaml(hostEndpoint), "apply", "-f", "-", "--confirm", "60s"), 10, confirm);
  assert.match(kept.text, /change \d+ is confirmed/);
  assert.deepEqual([kept.code, has("HostEndpoint", "n1-eth0")], [0, true]);
});
