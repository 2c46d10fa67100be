import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { readProc, readSockets, socketsOf } from "../../kernel/sockets.ts";
import type { LocalInterface } from "../interfaces.ts";
import { readInterfaces } from "../kernel_interfaces.ts";
import { type Service, servicesOf } from "./services.ts";

/** What a host is, as far as its protection depends on it. */
export interface Survey {
  interfaces: LocalInterface[];
  /** What others can reach as long as nothing protects it. */
  services: Service[];
}

/** Looks at this host. */
export async function surveyHost(): Promise<Survey> {
  using socket = RtSocket.open();
  const listening = readSockets().filter((s) => s.state === "listening");
  const programs = await programsOf(new Set(listening.map((s) => s.inode)));
  return { interfaces: readInterfaces(socket), services: servicesOf(listening, (inode) => programs.get(inode)) };
}

/** The program that holds each socket, by inode. Needs root for other users' processes. */
async function programsOf(inodes: ReadonlySet<string>): Promise<Map<string, string>> {
  const programs = new Map<string, string>();
  for await (const { name: pid } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    for (const inode of socketsOf(pid)) {
      if (inodes.has(inode) && !programs.has(inode)) programs.set(inode, readProc(`${pid}/comm`)?.trim() ?? "");
    }
  }
  return programs;
}
