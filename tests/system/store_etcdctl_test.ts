/** Debian's etcdctl against `tortie store`, over the unix socket and over TCP: the same commands print the same as with etcd. */
import assert from "node:assert/strict";
import { run } from "../../lib/process.ts";
import { startEtcd } from "../lab/etcd.ts";
import { startStoreProcess } from "../lab/store.ts";

const commands: { args: string[]; stdin?: string }[] = [
  { args: ["put", "/a", "1"] },
  { args: ["put", "/a", "2", "--prev-kv"] },
  { args: ["put", "/b/ü", "x", "-w", "simple"] },
  { args: ["get", "--prefix", "/", "--order=DESCEND", "--sort-by=KEY"] },
  { args: ["get", "/a", "--rev=2"] },
  { args: ["get", "/a", "--rev=99"] },
  { args: ["get", "/", "--from-key", "--keys-only", "--limit=1"] },
  { args: ["get", "--prefix", "/", "--count-only", "-w", "fields"] },
  { args: ["txn"], stdin: 'mod("/a") > "1"\nvalue("/b/ü") = "x"\n\nput /c 3\nget /a\n\nget /b/ü\n\n' },
  { args: ["txn"], stdin: 'create("/a") = "0"\n\nput /c 4\n\nget /c\ndel /c\n\n' },
  { args: ["watch", "/a", "--rev=1", "--prev-kv"] },
  { args: ["lease", "grant", "not-a-number"] },
  { args: ["lease", "revoke", "1234"] },
  { args: ["lease", "list"] },
  { args: ["del", "--prefix", "/b", "--prev-kv"] },
  { args: ["compaction", "4"] },
  { args: ["compaction", "4"] },
  { args: ["get", "/a", "--rev=3"] },
  { args: ["watch", "/a", "--rev=1"] },
  { args: ["alarm", "list"] },
  { args: ["put", "", "x"] },
];

/** Words that name one server: addresses, ids, times. */
const plain = (text: string) =>
  text.replace(/\{"level":.*\n/g, "").replace(/"?(ClusterID|MemberID|RaftTerm)"? : \d+/g, "$1").replace(
    /took = .*/,
    "took",
  );

/** What etcdctl prints, and its exit code; a watch is cut after a second. */
async function said(endpoint: string, args: string[], stdin?: string): Promise<string> {
  const cut = args[0] === "watch" ? ["timeout", "--preserve-status", "-s", "KILL", "1"] : [];
  const [program, ...rest] = [...cut, "etcdctl", "--endpoints", endpoint, "--command-timeout", "5s", ...args];
  const { code, stdout, stderr } = await run(program!, rest, { env: { ETCDCTL_API: "3" }, timeoutMs: 15_000, stdin });
  return plain(`${stdout}${stderr}exit ${code}`);
}

Deno.test("etcdctl prints the same for tortie store as for etcd", async () => {
  await using etcd = await startEtcd({ server: "etcd" });
  await using one = await startStoreProcess();
  await using other = await startStoreProcess();
  for (const { args, stdin } of commands) {
    const [theirs, overSocket, overTcp] = await Promise.all(
      [etcd.endpoint, one.socketEndpoint, other.endpoint].map((endpoint) => said(endpoint, args, stdin)),
    );
    assert.equal(overSocket, theirs, args.join(" "));
    assert.equal(overTcp, theirs, args.join(" "));
  }
});

Deno.test("etcdctl sees health, status, members, leases, and that there are no users", async () => {
  await using store = await startStoreProcess();
  const ctl = (...args: string[]) => said(store.socketEndpoint, args);
  assert.match(await ctl("endpoint", "health"), /is healthy/);
  assert.match(await ctl("endpoint", "status"), /3\.4\.23/);
  assert.match(await ctl("member", "list"), /started, tortie-store/);
  const lease = /lease (\w+) granted/.exec(await ctl("lease", "grant", "100"))![1]!;
  assert.match(await ctl("put", "/x", "1", `--lease=${lease}`), /OK/);
  assert.match(await ctl("lease", "timetolive", lease, "--keys"), /remaining\((99|100)s\), attached keys\(\[\/x\]\)/);
  assert.match(await ctl("lease", "keep-alive", "--once", lease), /keepalived with TTL\(100\)/);
  assert.match(await ctl("lease", "revoke", lease), /revoked/);
  assert.equal(await ctl("get", "/x"), "exit 0");
  assert.match(await ctl("user", "add", "root:x"), /authentication is not enabled/);
  assert.match(await ctl("auth", "enable"), /tortie store does not do users/);
  assert.match(await ctl("defrag"), /Finished defragmenting/);
  assert.match(await ctl("snapshot", "save", "/dev/null"), /does not do snapshot/);
  assert.match(await ctl("member", "add", "x", "--peer-urls=http://127.0.0.1:1"), /a cluster needs etcd/);
});
