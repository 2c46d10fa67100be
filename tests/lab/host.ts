import { run, runOk, RunOptions, RunResult } from "../../lib/process.ts";
import { wait } from "./wait.ts";

/** A machine of the lab: namespaces of its own for network, mounts, processes and name, over this machine's files. */
export interface Host extends AsyncDisposable {
  /** Host name and node name: "h1". */
  readonly name: string;
  /** Name of its network namespace for `ip -n`. */
  readonly netns: string;
  /** Its address on the wire, without the length. */
  readonly address: string;
  readonly address6: string;
  /** Process 1 of the host, as seen from here. */
  readonly pid: number;
  /** A folder that host and test see under the same path; logs and configurations go there. */
  readonly dir: string;
  /** The words that run a program in it: `Deno.Command(enter[0], {args: [...enter.slice(1), "ip", "a"]})`. */
  readonly enter: string[];
  /** Where a file of the host is to be found from here: "/run/x" is `/proc/<pid>/root/run/x`. */
  path(inside: string): string;
  /** Runs a program in it to its end. */
  run(program: string, args: string[], options?: RunOptions): Promise<RunResult>;
  /** run() that throws with the program's own words when it fails. Answers its output. */
  runOk(program: string, args: string[], options?: RunOptions): Promise<string>;
  /** Starts a program that stays; its output goes to `<dir>/<name>.log`. It dies with the host, or with this process. */
  start(name: string, program: string, args: string[], env?: Record<string, string>): Promise<HostProcess>;
}

/** A running program of a host. */
export interface HostProcess {
  /** As seen from here, for signals; the host knows it by another number. */
  readonly pid: number;
  readonly logFile: string;
  /** Resolves with the exit code when it ended (128 + signal when it was killed). */
  readonly ended: Promise<number>;
  /** True once it ended. */
  readonly isEnded: boolean;
  signal(signal: Deno.Signal): void;
  /** Sends a signal and waits for the end. Default SIGKILL. */
  kill(signal?: Deno.Signal): Promise<void>;
  /** The last lines of its log. */
  logTail(lines?: number): string;
}

/** What a host is made of. */
export interface HostPlan {
  name: string;
  netns: string;
  address: string;
  address6: string;
  /** A folder on tmpfs. */
  dir: string;
  /** Lives on when this process ends. */
  outlive: boolean;
}

/**
 * Makes the root of a host: this machine's files under a layer in memory, and its own /proc, /sys, /run, /tmp. The shell
 * stays as process 1 of the host and reaps what is left to it. It learns its number out here from the outer /proc.
 */
const setUp = `
set -e
read -r outer rest < /proc/self/stat
cd "$DIR"
mkdir -p layer
mount -t tmpfs -o mode=755 layer layer
mkdir layer/upper layer/work layer/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$DIR/layer/upper,workdir=$DIR/layer/work" layer/root
cd layer/root
mkdir -p "$REPO" var/lib/containerd
mount --rbind /dev dev
mount --bind "$REPO" "./$REPO"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 run run
mount -t tmpfs tmp tmp
mount -t tmpfs containerd var/lib/containerd
mkdir run/lock run/netns .outer
pivot_root . .outer
cd /
umount -l /.outer
rmdir /.outer
hostname "$NAME"
echo "$outer" > "$DIR/pid.new"
mv "$DIR/pid.new" "$DIR/pid"
while :; do sleep 86400 & wait $!; done
`;

/** Boots a host in a network namespace that exists. */
export async function bootHost(plan: HostPlan): Promise<Host> {
  await Deno.mkdir(plan.dir, { recursive: true });
  const repo = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
  const holder = new Deno.Command("setpriv", {
    args: [
      ...[...(plan.outlive ? [] : ["--pdeathsig", "KILL"]), "--", "nsenter", `--net=/run/netns/${plan.netns}`],
      ...["unshare", "--mount", "--propagation", "private", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL"],
      ...["sh", "-c", `exec 2>"$DIR/boot.log"; ${setUp}`],
    ],
    env: { DIR: plan.dir, REPO: repo, NAME: plan.name },
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  let ended = false;
  holder.status.then(() => ended = true);
  const pid = await wait(`host ${plan.name} to boot`, async () => {
    if (ended) return -1;
    return Number(await Deno.readTextFile(`${plan.dir}/pid`));
  });
  if (pid === -1) throw new Error(`host ${plan.name}: ${await Deno.readTextFile(`${plan.dir}/boot.log`)}`);
  return hostOf(plan, pid, async () => void await holder.status);
}

/** The host of a process 1 that runs already; disposing it ends every process in it. */
export function hostOf(plan: HostPlan, pid: number, gone: () => Promise<void>): Host {
  const enter = ["nsenter", "-t", String(pid), "-m", "-u", "-i", "-n", "-p"];
  const inside = (program: string, args: string[]) => [...enter.slice(1), program, ...args];
  return {
    ...{
      name: plan.name,
      netns: plan.netns,
      address: plan.address,
      address6: plan.address6,
      dir: plan.dir,
      pid,
      enter,
    },
    path: (file) => `/proc/${pid}/root${file}`,
    run: (program, args, options) => run("nsenter", inside(program, args), options),
    runOk: (program, args, options) => runOk("nsenter", inside(program, args), options),
    start: (name, program, args, env = {}) => startProcess(plan, inside, name, program, args, env),
    async [Symbol.asyncDispose]() {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
      await gone();
    },
  };
}

async function startProcess(
  plan: HostPlan,
  inside: (program: string, args: string[]) => string[],
  name: string,
  program: string,
  args: string[],
  env: Record<string, string>,
): Promise<HostProcess> {
  const logFile = `${plan.dir}/${name}.log`;
  const die = plan.outlive ? [] : ["--pdeathsig", "KILL"];
  const words = ["sh", "-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1', "start", logFile];
  const child = new Deno.Command("setpriv", {
    args: [...die, "--", "nsenter", ...inside("setpriv", [...die, "--", ...words, program, ...args])],
    env,
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  let isEnded = false;
  const ended = child.status.then(({ code }) => {
    isEnded = true;
    return code;
  });
  // nsenter stays as the parent of what it started in the host.
  const pid = isEnded ? -1 : await wait(`${name} on ${plan.name} to start`, () => isEnded ? -1 : childOf(child.pid));
  const signal = (s: Deno.Signal) => {
    if (!isEnded && pid > 0) Deno.kill(pid, s);
    // nsenter stops itself with what it started, and would not see its end.
    if (!isEnded && s === "SIGCONT") Deno.kill(child.pid, s);
  };
  return {
    ...{ pid, logFile, ended, signal },
    get isEnded() {
      return isEnded;
    },
    async kill(s = "SIGKILL") {
      signal(s);
      await ended;
    },
    logTail: (lines = 20) => tail(logFile, lines),
  };
}

/** The only child of a process. */
function childOf(parent: number): number | undefined {
  for (const entry of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(entry.name)) continue;
    try {
      const stat = Deno.readTextFileSync(`/proc/${entry.name}/stat`);
      if (Number(stat.slice(stat.lastIndexOf(")") + 4).split(" ")[0]) === parent) return Number(entry.name);
    } catch { /* it ended while we looked */ }
  }
  return undefined;
}

function tail(file: string, lines: number): string {
  try {
    return Deno.readTextFileSync(file).trimEnd().split("\n").slice(-lines).join("\n");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}
