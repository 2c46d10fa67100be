/** A rented machine is protected from scratch by its owner, in an ssh session, who then tries to lock himself out. */
import assert from "node:assert/strict";
import { wait } from "../lab/wait.ts";
import { makeVm, services, type Vm } from "./_vm.ts";

const { ssh, web, database, cache } = services;
const everything = [ssh, web, database, cache].flatMap((p) => [`${p}`, `6:${p}`]).sort();
const wanted = [ssh, web].flatMap((p) => [`${p}`, `6:${p}`]).sort();
const api = "apiVersion: projectcalico.org/v3";

const closed = `
${api}
kind: FelixConfiguration
metadata: {name: node.h1, labels: {tortie.io/protects: h1}}
spec: {failsafeInboundHostPorts: []}
---
${api}
kind: GlobalNetworkPolicy
metadata: {name: locked}
spec: {order: 1, selector: all(), types: [Ingress], ingress: [{action: Deny}]}
`;

const opening = (name: string, port: number) => `
${api}
kind: GlobalNetworkPolicy
metadata: {name: ${name}}
spec:
  order: 1
  selector: tortie.io/protects == 'h1'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [${port}]}}
`;

/** Ports that are open once the scan gives what is awaited, or after the deadline. */
async function open(vm: Vm, awaited: string[], deadlineMs = 30_000): Promise<string[]> {
  let found: string[] = [];
  const same = async () => (found = (await vm.scan()).sort()).join() === awaited.join();
  await wait("the ports to be as they should", same, { deadlineMs }).catch(() => {});
  return found;
}

Deno.test("a host is protected by one command, and its owner cannot lock himself out", async (t) => {
  await using vm = await makeVm("pr");
  const ctl = (words: string, stdin?: string) => vm.ssh(`tortie ctl ${words}`, stdin);
  await t.step("before, every service that listens is reached from outside, by IPv4 and IPv6", async () => {
    assert.deepEqual((await vm.scan()).sort(), everything);
  });
  await t.step("asked to print, it proposes what it sees and changes nothing", async () => {
    const { stdout, code } = await vm.ssh("tortie protect --print");
    assert.equal(code, 0);
    assert.match(stdout, /interfaceName: eth0/);
    assert.match(stdout, /program: sshd/);
    assert.doesNotMatch(stdout, /5432|6379|9000/);
    assert.equal((await vm.host.run("test", ["-e", "/run/tortie/store.sock"])).code, 1);
  });
  await t.step(
    "protected within seconds, with what it needs started, from an ssh session on a port that is no failsafe",
    async () => {
      const { stderr, code } = await vm.ssh("tortie protect --yes --confirm 60s");
      assert.equal(code, 0, stderr);
      console.log(stderr.trimEnd());
      assert.match(stderr, /tcp\/5432 +busybox +eth0 +open +closed/);
      assert.match(stderr, /tcp\/2222 +sshd +eth0 +open +open \(failsafe\)/);
      assert.deepEqual(await open(vm, wanted), wanted);
    },
  );
  await t.step("confirmed from a new session, it stays", async () => {
    const { stdout, code, stderr } = await ctl("confirm");
    assert.equal(code, 0, stderr);
    assert.match(stdout, /change \S+ stays/);
    assert.match((await ctl("confirm --list")).stdout, /no change waits/);
  });
  await t.step(
    "a file in policies.d opens a port; broken it stays open, and is told with its line; gone it closes",
    async () => {
      const file = (name: string, text: string) =>
        vm.ssh(`mkdir -p /etc/tortie/policies.d && cat > /etc/tortie/policies.d/${name}`, text);
      const [withDatabase, withBoth] = [[database], [database, cache]].map((more) =>
        [...wanted, ...more.flatMap((p) => [`${p}`, `6:${p}`])].sort()
      );
      await file("db.yaml", opening("db", database));
      assert.deepEqual(await open(vm, withDatabase!), withDatabase);
      await file("db.yaml", opening("db", database).replace("ports: [5432]", "ports: [5432, nonsense!]"));
      await file("cache.yaml", opening("cache", cache));
      assert.deepEqual(await open(vm, withBoth!), withBoth);
      const told = async () => (await vm.ssh("cat /run/tortie/node.log")).stdout;
      await wait("the broken file to be told", async () => /db\.yaml, document 1, line 10: /.test(await told()), {
        deadlineMs: 30_000,
      });
      await vm.ssh("rm /etc/tortie/policies.d/*.yaml");
      assert.deepEqual(await open(vm, wanted), wanted);
    },
  );
  await t.step("protect, too, refuses objects that would cut the session for good", async () => {
    const edited = "tortie protect --print | sed s/2222/2299/";
    const { code, stderr } = await vm.ssh(`${edited} | tortie protect --yes --confirm 0 -f -`);
    assert.equal(code, 1);
    assert.match(stderr, /would cut your own session/);
    assert.deepEqual(await open(vm, wanted), wanted);
  });
  await t.step("a policy that would cut the session is refused, also where sudo dropped its variable", async () => {
    for (const before of ["", "env -u SSH_CONNECTION "]) {
      const { code, stderr } = await vm.ssh(`${before}tortie ctl apply -f -`, closed);
      assert.equal(code, 1);
      assert.match(stderr, /would cut your own session: ssh from 172\.30\.0\.1 to port 2222 of host h1: .*locked/);
    }
    assert.deepEqual(await open(vm, wanted), wanted);
  });
  await t.step("locked out on purpose, the operator's processes killed: it heals", async () => {
    await vm.host.runOk("sh", ["-c", `cat > /run/closed.yaml <<'END'\n${closed}\nEND`]);
    const endSession = vm.session("tortie ctl apply -f /run/closed.yaml --confirm 10s; sleep 1000");
    assert.deepEqual(await open(vm, []), [], "nobody gets in, the owner neither");
    await vm.host.run("pkill", ["-9", "-f", "apply -f /run/closed.yaml"]);
    await endSession();
    assert.deepEqual(await open(vm, wanted, 40_000), wanted);
    assert.match((await ctl("confirm --list")).stdout, /was undone at .*GlobalNetworkPolicy\(locked\)/);
  });
  await t.step(
    "locked out, and operator, agent and datastore killed at once: it heals when they are started again",
    async () => {
      const endSession = vm.session("tortie ctl apply -f /run/closed.yaml --confirm 10s; sleep 1000");
      assert.deepEqual(await open(vm, []), []);
      await vm.host.run("pkill", ["-9", "-f", "tortie (ctl|node|store)"]);
      await endSession();
      assert.deepEqual(await vm.scan(), [], "what was in force stays in force");
      const env = { TORTIE_DATASTORE: "embedded", CALICO_NETWORKING_BACKEND: "none", NO_DEFAULT_POOLS: "true" };
      await vm.host.start("node-again", vm.tortie, ["node"], env);
      assert.deepEqual(await open(vm, wanted, 60_000), wanted);
    },
  );
  await t.step("taken back, everything is as it was", async () => {
    const { stderr, code } = await vm.ssh("tortie protect --undo");
    assert.equal(code, 0, stderr);
    assert.match(stderr, /removed HostEndpoint\(h1-eth0\)/);
    assert.deepEqual(await open(vm, everything), everything);
  });
});
