/** What a process has used so far, with the children that it waited for. Times in milliseconds, by steps of 10. */
export interface Cpu {
  own: number;
  children: number;
}

/** CPU time of a process and of its ended children, user and system. */
export function cpuOf(pid: number): Cpu {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
  const [user, system, childUser, childSystem] = fields.slice(11, 15) as [number, number, number, number];
  return { own: (user + system) * 10, children: (childUser + childSystem) * 10 };
}

/** What was used between two looks. */
export const used = (before: Cpu, after: Cpu): Cpu => ({
  own: after.own - before.own,
  children: after.children - before.children,
});

/** Resident memory of a process in MiB: now, and the most it ever had. */
export function memoryOf(pid: number): { now: number; peak: number } {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  const mib = (field: string) => Math.round(Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)![1]) / 1024);
  return { now: mib("VmRSS"), peak: mib("VmHWM") };
}

/** Programs whose starts are counted: all that an agent may call. */
const counted = ["iptables", "ip6tables"].flatMap((p) =>
  ["", "-legacy", "-nft"].flatMap((v) => ["", "-save", "-restore"].map((w) => `${p}${v}${w}`))
).concat("ipset", "conntrack", "nft", "ip", "bird", "birdc", "modprobe", "sysctl");

/** A folder for PATH, in front of the others, whose programs note their starts. */
export class StartCounter {
  private constructor(private readonly dir: string) {}

  static async make(dir: string): Promise<StartCounter> {
    await Deno.mkdir(dir, { recursive: true });
    const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/sbin"];
    for (const name of counted) {
      const real = folders.map((f) => `${f}/${name}`).find((path) => path.startsWith("/") && isFile(path));
      if (real === undefined) continue;
      const script = `#!/bin/sh\necho ${name} "$@" >> ${dir}/started\nexec ${real} "$@"\n`;
      await Deno.writeTextFile(`${dir}/${name}`, script, { mode: 0o755 });
    }
    return new StartCounter(dir);
  }

  /** For the environment of the process whose children are to be counted. */
  get path(): string {
    return `${this.dir}:${Deno.env.get("PATH") ?? ""}`;
  }

  /** What was started since the last call: name and arguments. */
  async take(): Promise<string[]> {
    const file = `${this.dir}/started`;
    if (!isFile(file)) return [];
    const lines = (await Deno.readTextFile(file)).trimEnd().split("\n");
    await Deno.remove(file);
    return lines;
  }
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw error;
  }
}
