/** What the arguments say. */
export interface Flags {
  /** 0 = not served. */
  healthPort: number;
  statusFile: string | undefined;
}

/** The flags among the arguments; undefined when they are not understood. Source: Calico's flags of these names. */
export function flagsIn(args: string[]): Flags | undefined {
  const flags: Flags = { healthPort: 0, statusFile: undefined };
  const words = args.flatMap((arg) => arg.startsWith("--") && arg.includes("=") ? splitAtEquals(arg) : [arg]);
  for (let i = 0; i < words.length; i += 2) {
    const [flag, value] = [words[i], words[i + 1]];
    if (flag === "--health-port" && /^\d{1,5}$/.test(value ?? "") && Number(value) <= 65_535) {
      flags.healthPort = Number(value);
    } else if (flag === "--status-file" && value) flags.statusFile = value;
    else return undefined;
  }
  return flags;
}

function splitAtEquals(arg: string): [string, string] {
  const at = arg.indexOf("=");
  return [arg.slice(0, at), arg.slice(at + 1)];
}
