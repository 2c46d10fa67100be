import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import type { LocalInterface } from "../interfaces.ts";
import { readInterfaces } from "../kernel_interfaces.ts";
import { parseListeners, type Service, servicesOf } from "./listeners.ts";

/** What a host is, as far as its protection depends on it. */
export interface Survey {
  interfaces: LocalInterface[];
  /** What others can reach as long as nothing protects it. */
  services: Service[];
}

/** Looks at this host. */
export async function surveyHost(): Promise<Survey> {
  using socket = RtSocket.open();
  const listeners = (["TCP", "UDP"] as const).flatMap((protocol) =>
    ["", "6"].flatMap((v) => parseListeners(readText(`/proc/net/${protocol.toLowerCase()}${v}`) ?? "", protocol))
  );
  const wanted = new Set(listeners.map((l) => l.inode));
  const programs = await programsOf(wanted);
  return { interfaces: readInterfaces(socket), services: servicesOf(listeners, (inode) => programs.get(inode)) };
}

/** The program that holds each socket, by inode. Needs root for other users' processes. */
async function programsOf(inodes: ReadonlySet<string>): Promise<Map<string, string>> {
  const programs = new Map<string, string>();
  for await (const { name: pid } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    for (const inode of socketsOf(pid)) {
      if (!inodes.has(inode) || programs.has(inode)) continue;
      programs.set(inode, readText(`/proc/${pid}/comm`)?.trim() ?? "");
    }
  }
  return programs;
}

function socketsOf(pid: string): string[] {
  const links = unlessGone(() => [...Deno.readDirSync(`/proc/${pid}/fd`)]) ?? [];
  return links.flatMap(({ name }) => {
    const target = unlessGone(() => Deno.readLinkSync(`/proc/${pid}/fd/${name}`));
    return /^socket:\[(\d+)\]$/.exec(target ?? "")?.[1] ?? [];
  });
}

const readText = (path: string): string | undefined => unlessGone(() => Deno.readTextFileSync(path));

/** A kernel without IPv6, a process that has just ended and one that may not be looked at tell nothing. */
function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    const expected = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied;
    if (expected || error instanceof Error && "code" in error && error.code === "ESRCH") return undefined;
    throw error;
  }
}
