/** `count` TCP ports of 127.0.0.1 that were free a moment ago. Who starts a server on one checks that it is its own. */
export function freePorts(count: number): number[] {
  const listeners = Array.from({ length: count }, () => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  const ports = listeners.map((l) => (l.addr as Deno.NetAddr).port);
  for (const l of listeners) l.close();
  return ports;
}

/** Six hex digits: makes names of namespaces, folders and members unique among tests that run at once. */
export function uniqueSuffix(): string {
  return [...crypto.getRandomValues(new Uint8Array(3))].map((b) => b.toString(16).padStart(2, "0")).join("");
}
