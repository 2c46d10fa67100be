import type { Clock } from "../lib/clock.ts";
import { Problem } from "../lib/problem.ts";
import type { Port } from "./reconcile.ts";

/** A switch of the kernel. `path` is below /proc/sys: `net/ipv4/conf/eth0/proxy_arp`; dots in it are no separators. */
export interface Sysctl {
  path: string;
  value: string;
  /** The kernel may lack it (IPv6 switched off): then it is passed over. */
  optional?: boolean;
}

/**
 * The value, without its line break; undefined when there is no such switch. `net/…` is that of the calling thread's
 * namespace, which is why nothing here is asynchronous.
 */
export function readSysctl(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(`/proc/sys/${path}`).trimEnd();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new Problem({ code: "kernel", what: "sysctl cannot be read", where: path, cause: error });
  }
}

/**
 * Sets it when it has another value. @returns true when it was written.
 * @throws Problem "kernel": not there, or refused.
 */
export function writeSysctl({ path, value, optional }: Sysctl): boolean {
  const have = readSysctl(path);
  if (have === value || (have === undefined && optional)) return false;
  try {
    if (have === undefined) throw new Error("this kernel has no such switch");
    Deno.writeTextFileSync(`/proc/sys/${path}`, value, { create: false });
    return true;
  } catch (error) {
    throw new Problem({ code: "kernel", what: `sysctl cannot be set to ${value}`, where: path, cause: error });
  }
}

/** Reads are cut into slices of so many, so that thousands of interfaces do not hold up the event loop. */
const slice = 200;

/** The switches that `wanted` names. One that is no longer wanted keeps its value: most vanish with their interface. */
export function sysctlPort(wanted: () => ReadonlyMap<string, Sysctl>, clock: Clock): Port<string, Sysctl> {
  const read = async (keys: Iterable<string>) => {
    const found = new Map<string, Sysctl>();
    let reads = 0;
    for (const key of [...keys]) {
      const sysctl = wanted().get(key);
      if (++reads % slice === 0) await clock.sleep(0);
      const value = sysctl && readSysctl(sysctl.path);
      // A kernel without an optional switch is as wanted.
      if (value !== undefined) found.set(key, { ...sysctl!, value });
      else if (sysctl?.optional) found.set(key, sysctl);
    }
    return found;
  };
  return {
    name: "sysctls",
    list: () => read(wanted().keys()),
    read,
    same: (have, want) => have.path === want.path && have.value === want.value,
    apply(put) {
      const failed = new Map<string, Error>();
      for (const [key, sysctl] of put) {
        try {
          writeSysctl(sysctl);
        } catch (error) {
          if (!(error instanceof Problem)) throw error;
          failed.set(key, error);
        }
      }
      return Promise.resolve(failed);
    },
  };
}
