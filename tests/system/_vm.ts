import { run, runOk, type RunResult } from "../../lib/process.ts";
import type { Host } from "../lab/host.ts";
import { type Lab, makeHosts } from "../lab/hosts.ts";
import { linkPlugin } from "../lab/tortie.ts";
import { wait } from "../lab/wait.ts";

/** A rented machine: one host with services and an sshd on a port of its own, and the world outside. */
export interface Vm extends AsyncDisposable {
  readonly lab: Lab;
  readonly host: Host;
  /** The program, as the host runs it. */
  readonly tortie: string;
  /** Runs a shell command on it in a new ssh session, as its owner does. */
  ssh(command: string, stdin?: string): Promise<RunResult>;
  /** Starts one on a terminal; answers what kills the client, as when a laptop dies. */
  session(command: string): () => Promise<void>;
  /** Ports of `services` that somebody outside can reach, by IPv4 and, with a 6 before it, by IPv6. */
  scan(): Promise<string[]>;
}

/** What listens on the machine. */
export const services = { ssh: 2222, web: 80, database: 5432, cache: 6379, local: 9000 };

/** Makes one. What is outside is the lab's wire. */
export async function makeVm(prefix: string): Promise<Vm> {
  const lab = await makeHosts(1, { prefix }), host = lab.hosts[0]!;
  const tortie = await linkPlugin(host);
  await host.runOk("ln", ["-sf", tortie, "/usr/local/bin/tortie"]);
  const key = `${lab.dir}/key`;
  await runOk("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  await startServices(host, `${key}.pub`);
  const words = [
    ...["-p", String(services.ssh), "-i", key, "-o", "ConnectTimeout=2", "-o", "BatchMode=yes"],
    ...["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"],
  ];
  const outside = [`--net=${lab.wire.path}`, "ssh", ...words, `root@${host.address}`];
  const vm: Vm = {
    ...{ lab, host, tortie },
    ssh: (command, stdin) => run("nsenter", [...outside, command], { stdin, timeoutMs: 60_000 }),
    session: (command) => startSession([...outside.slice(0, 2), "-tt", ...outside.slice(2), command]),
    scan: () => scan(vm),
    [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose](),
  };
  await wait("sshd to let its owner in", async () => (await vm.ssh("true")).code === 0);
  await wait("all services to listen", async () => (await vm.scan()).length === 8);
  return vm;
}

function startSession(words: string[]): () => Promise<void> {
  const child = new Deno.Command("nsenter", { args: words, stdin: "null", stdout: "null", stderr: "null" }).spawn();
  let isEnded = false;
  const ended = child.status.then(() => isEnded = true);
  return async () => {
    if (!isEnded) child.kill("SIGKILL");
    await ended;
  };
}

async function startServices(host: Host, publicKey: string): Promise<void> {
  await host.runOk("sh", [
    "-c",
    `mkdir -p /run/sshd /root/.ssh && cp ${publicKey} /root/.ssh/authorized_keys &&
    chmod 700 /root /root/.ssh && chmod 600 /root/.ssh/authorized_keys && chown -R root:root /root/.ssh &&
    ssh-keygen -q -t ed25519 -N '' -f /run/sshd/host_key`,
  ]);
  await host.start("sshd", "/usr/sbin/sshd", [
    ...["-D", "-e", "-f", "/dev/null", "-p", String(services.ssh), "-h", "/run/sshd/host_key"],
    ...["-o", "PidFile=none", "-o", "UsePAM=no", "-o", "PermitRootLogin=yes", "-o", "StrictModes=no"],
  ]);
  for (const [name, port] of Object.entries(services)) {
    if (name === "ssh") continue;
    const at = name === "local" ? `127.0.0.1:${port}` : `[::]:${port}`;
    await host.start(name, "busybox", ["httpd", "-f", "-p", at, "-h", "/run"]);
  }
}

async function scan({ lab, host }: Vm): Promise<string[]> {
  const targets = Object.values(services).flatMap((port) => [[`${port}`, host.address], [`6:${port}`, host.address6]]);
  const open = await Promise.all(targets.map(async ([name, address]) => {
    const port = name!.replace("6:", "");
    const script = `exec 3<>/dev/tcp/${address}/${port}`;
    const { code } = await run("nsenter", [`--net=${lab.wire.path}`, "timeout", "1", "bash", "-c", script]);
    return code === 0 ? [name!] : [];
  }));
  return open.flat();
}
