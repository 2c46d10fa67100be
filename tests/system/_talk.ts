import { inNetns, openNetns } from "../../kernel/netns.ts";
import type { Namespace } from "../lab/namespaces.ts";

/** A TCP connection between two namespaces that talks all the time. */
export interface Talk extends AsyncDisposable {
  /** Lines that went there and came back. */
  readonly echoed: number;
  /** Segments that had to be sent again, by either side, since it began. */
  retransmitted(): Promise<number>;
  /** Ends it. @throws when the connection broke. */
  end(): Promise<void>;
}

/** Opens a connection to a server that echoes, and sends a line every few milliseconds. */
export async function talk(from: Namespace, to: Namespace, address: string, port: number): Promise<Talk> {
  const within = <T>(space: Namespace, work: () => T): T => {
    using netns = openNetns(space.path);
    return inNetns(netns, work);
  };
  const listener = within(to, () => Deno.listen({ hostname: "0.0.0.0", port }));
  const accepted = listener.accept();
  // The socket is made before the first await, so it belongs to the namespace that the thread is in now.
  const client = await within(from, () => ({ connecting: Deno.connect({ hostname: address, port }) })).connecting;
  const server = await accepted;
  const echo = server.readable.pipeTo(server.writable).catch(() => {}); // its end is the client's to tell
  const before = await retransmissions([from, to]);
  let echoed = 0, ending = false;
  const reader = client.readable.getReader(), writer = client.writable.getWriter();
  const run = (async () => {
    while (!ending) {
      await writer.write(new TextEncoder().encode(`${echoed}\n`));
      const { done } = await reader.read();
      if (done) throw new Error("the connection was closed");
      echoed++;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  run.catch(() => {}); // told by end()
  const end = async () => {
    ending = true;
    try {
      await run;
    } finally {
      reader.releaseLock();
      await writer.close().catch(() => {});
      await client.readable.cancel().catch(() => {});
      await echo;
      listener.close();
    }
  };
  return {
    get echoed() {
      return echoed;
    },
    retransmitted: async () => await retransmissions([from, to]) - before,
    end,
    [Symbol.asyncDispose]: () => ending ? Promise.resolve() : end().catch(() => {}),
  };
}

/** RetransSegs of /proc/net/snmp. */
async function retransmissions(spaces: Namespace[]): Promise<number> {
  let sum = 0;
  for (const space of spaces) {
    const [names, values] = (await space.runOk("cat", ["/proc/thread-self/net/snmp"])).split("\n")
      .filter((line) => line.startsWith("Tcp:")).map((line) => line.split(" "));
    sum += Number(values![names!.indexOf("RetransSegs")]);
  }
  return sum;
}
