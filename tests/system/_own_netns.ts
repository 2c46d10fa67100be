import { enterNetns, openNetns } from "../../kernel/netns.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";

// The C library is loaded here and not in a test, whose leak check would take it for a leak.
RtSocket.open()[Symbol.dispose]();

/**
 * A new namespace that this test file's thread is in until the end of the scope: sockets, `/proc/sys/net` and child
 * processes are its own, as on a host of its own.
 */
export async function enterOwnNetns(prefix: string): Promise<Namespace> {
  const host = await makeNamespace(prefix);
  const netns = openNetns(host.path);
  const leave = enterNetns(netns);
  netns[Symbol.dispose]();
  const remove = host[Symbol.asyncDispose].bind(host);
  return Object.assign(host, {
    async [Symbol.asyncDispose]() {
      leave();
      await remove();
    },
  });
}

/** Open files of this process that are sockets of netlink or namespaces; the same before and after, or something leaks. */
export function kernelHandles(): number {
  return [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => {
    try {
      const target = Deno.readLinkSync(`/proc/self/fd/${name}`);
      return target.startsWith("socket:") || target.startsWith("net:") || target.includes("/netns/");
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }).length;
}
