import { FakeClock } from "../lib/clock.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { runCtl } from "./main.ts";
import type { Surroundings } from "./surroundings.ts";

/** For tests: a store that outlives the commands that think they have opened it. */
export class LastingStore extends MemoryStore {
  override [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

/** For tests: what a command line over `store` printed, on both streams, and its exit code. */
export async function memoryCtl(
  store: MemoryStore,
  args: string[],
  more: Partial<Surroundings> = {},
): Promise<{ code: number; text: string }> {
  let text = "";
  const print = (more: string) => void (text += more);
  const surroundings: Surroundings = {
    program: "calicoctl",
    out: print,
    err: print,
    stdin: () => Promise.resolve(""),
    env: (name) => ({ DATASTORE_TYPE: "etcdv3", ETCD_ENDPOINTS: "http://etcd:2379" })[name],
    readFile: () => Promise.resolve(undefined),
    listFolder: () => Promise.resolve(undefined),
    openStore: () => store,
    node: () => Promise.resolve({}),
    host: () => Promise.reject(new Error("no command of these tests needs the machine")),
    clock: new FakeClock(),
    uuid: () => "u",
    random: () => 0,
    version: "v0",
    commit: "c",
    screen: false,
    terminal: false,
    ...more,
  };
  return { code: await runCtl(args, surroundings), text };
}
