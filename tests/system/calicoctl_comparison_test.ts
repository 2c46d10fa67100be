/**
 * A session of command lines, answered by us and by the real calicoctl against one etcd: what is printed where, the exit
 * codes, and what lies in etcd in the end. With CALICOCTL_BINARY the real one runs, else its recorded answers stand for it
 * (`UPDATE_GOLDEN=1` with CALICOCTL_BINARY records them anew).
 */
import assert from "node:assert/strict";
import { runCtl } from "../../ctl/main.ts";
import { processSurroundings } from "../../ctl/process_surroundings.ts";
import { run } from "../../lib/process.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { type Line, lines } from "./_calicoctl_lines.ts";

const calicoctl = Deno.env.get("CALICOCTL_BINARY");
const recorded = new URL("./calicoctl_answers.json", import.meta.url);

interface Answer {
  exit: number;
  stdout: string;
  stderr: string;
}

/** What a session printed line by line, and the values that it left. */
interface Session {
  answers: Answer[];
  left: Record<string, string>;
}

type Program = (line: Line, endpoint: string) => Promise<Answer>;

const ours: Program = async ({ args, stdin = "" }, endpoint) => {
  let stdout = "", stderr = "";
  const env: Record<string, string> = { DATASTORE_TYPE: "etcdv3", ETCD_ENDPOINTS: endpoint };
  const exit = await runCtl(args, {
    ...processSurroundings(),
    program: "calicoctl",
    out: (text) => stdout += text,
    err: (text) => stderr += text,
    stdin: () => Promise.resolve(stdin),
    env: (name) => env[name],
    version: "<version>",
    commit: "<commit>",
    terminal: false,
    screen: false,
  });
  return { exit, stdout, stderr };
};

const theirs: Program = async ({ args, stdin = "" }, endpoint) => {
  const env = { DATASTORE_TYPE: "etcdv3", ETCD_ENDPOINTS: endpoint };
  const { code, stdout, stderr } = await run(calicoctl!, args, { stdin, env, timeoutMs: 60_000 });
  return { exit: code, stdout, stderr };
};

async function session(program: Program, etcd: Etcd): Promise<Session> {
  await etcd.etcdctl("del", "--prefix", "/");
  const answers: Answer[] = [];
  for (const line of lines) answers.push(plain(await program(line, etcd.endpoint)));
  // What we keep beside Calico's keys, such as histories, calicoctl never sees.
  const left = await etcd.dump("/calico/");
  return { answers, left: Object.fromEntries([...left].map(([key, value]) => [key, withoutChance(value)])) };
}

/** The answer without what each run makes up: identities, revisions, times, versions. */
const plain = ({ exit, stdout, stderr }: Answer): Answer => ({
  exit,
  stdout: withoutChance(stdout),
  stderr: withoutChance(stderr),
});

const withoutChance = (text: string): string =>
  text.replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "<uid>")
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, "<time>")
    .replace(/("?resourceVersion"?: )"\d+"/g, '$1"<rv>"')
    .replace(/("?clusterGUID"?: ?)"?[0-9a-f]{32}"?/g, '$1"<guid>"')
    .replace(/^(Client Version: +|Git commit: +).*$/gm, "$1<version>");

const told = ({ args, stdin }: Line): string =>
  `calicoctl ${args.join(" ")}${stdin ? ` <<< ${stdin.slice(0, 200)}` : ""}`;

Deno.test("a session of command lines is answered as the real calicoctl answers it", async () => {
  await using etcd = await startEtcd();
  const golden = calicoctl ? undefined : JSON.parse(await Deno.readTextFile(recorded)) as Session;
  const wanted = golden ?? await session(theirs, etcd);
  if (calicoctl && Deno.env.get("UPDATE_GOLDEN")) {
    await Deno.writeTextFile(recorded, JSON.stringify(wanted, undefined, 2) + "\n");
  }
  assert.equal(wanted.answers.length, lines.length, "the recorded answers are of other lines: record them anew");
  compare(await session(ours, etcd), wanted);
});

for (const first of [0, 1]) {
  const name = `line by line in turn, ${first ? "ours" : "the real calicoctl"} first, both work on what the other left`;
  Deno.test({ name, ignore: !calicoctl }, async () => {
    await using etcd = await startEtcd();
    const wanted = JSON.parse(await Deno.readTextFile(recorded)) as Session;
    const inTurn: Program = (line, endpoint) =>
      (lines.indexOf(line) % 2 === first && !line.differs ? theirs : ours)(line, endpoint);
    compare(await session(inTurn, etcd), wanted);
  });
}

/** @throws AssertionError that shows the lines that were answered otherwise. */
function compare(got: Session, wanted: Session): void {
  const differences = lines.flatMap((line, i) => {
    const same = JSON.stringify(got.answers[i]) === JSON.stringify(wanted.answers[i]);
    if (line.differs) return same ? [`${told(line)}: does not differ any more`] : [];
    return same ? [] : [`${told(line)}\n  wanted ${show(wanted.answers[i]!)}\n  got    ${show(got.answers[i]!)}`];
  });
  assert.equal(differences.length, 0, `${differences.length} of ${lines.length} differ\n${differences.join("\n")}`);
  assert.deepEqual(got.left, wanted.left);
}

const show = (answer: Answer): string => JSON.stringify(answer);
