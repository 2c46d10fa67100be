import { Problem } from "../lib/problem.ts";
import { cString, E, lastError, libc } from "./_ffi.ts";

/**
 * The calling thread's namespace. `/proc/self` would be the main thread's: a Worker, and every file of `deno test`, runs
 * on another one.
 */
const ownPath = "/proc/thread-self/ns/net";
const openFlags = 0o2000000; // O_RDONLY | O_CLOEXEC
const cloneNewnet = 0x40000000;

/** An open network namespace; keeps it alive until disposed. */
export interface Netns extends Disposable {
  readonly fd: number;
  readonly path: string;
}

/**
 * Opens the namespace at `path` (a bind mount such as /run/netns/x, or /proc/PID/ns/net).
 * @throws Problem "not-found" when there is nothing at the path, "kernel" for the rest.
 */
export function openNetns(path: string): Netns {
  const fd = libc().open(cString(path), openFlags);
  if (fd >= 0) return { fd, path, [Symbol.dispose]: () => void libc().close(fd) };
  const cause = lastError();
  throw new Problem(
    cause.errno === E.NOENT
      ? { code: "not-found", what: "network namespace does not exist", where: path }
      : { code: "kernel", what: "network namespace cannot be opened", where: path, cause },
  );
}

/** True when the namespace at `path` is the calling thread's own. @throws Problem "not-found". */
export function isOwnNetns(path: string): boolean {
  const own = Deno.statSync(ownPath);
  try {
    const other = Deno.statSync(path);
    return own.ino === other.ino && own.dev === other.dev;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) {
      throw new Problem({ code: "not-found", what: "network namespace does not exist", where: path });
    }
    throw new Problem({ code: "kernel", what: "network namespace cannot be looked at", where: path, cause });
  }
}

/**
 * Runs `work` with the calling thread in another namespace and comes back. `work` must be synchronous: sockets that it
 * opens and `/proc/sys/net` that it reads with `…Sync` are the other namespace's; asynchronous file calls are not.
 * When the way back fails the process ends with code 111, because every later call would hit the wrong namespace.
 * @throws Problem "bad-input" when it is not a network namespace, "kernel"; whatever `work` throws.
 */
export function inNetns<T>(netns: Netns, work: () => T): T {
  const leave = enterNetns(netns);
  try {
    const result = work();
    if (result instanceof Promise) throw new Error("work inside another namespace must not be asynchronous");
    return result;
  } finally {
    leave();
  }
}

/**
 * Puts the calling thread into a namespace until the returned function is called. For a whole thread (a test file);
 * everything else uses inNetns().
 */
export function enterNetns(netns: Netns): () => void {
  const home = openNetns(ownPath);
  if (libc().setns(netns.fd, cloneNewnet) < 0) {
    const cause = lastError();
    home[Symbol.dispose]();
    throw new Problem(
      cause.errno === E.INVAL
        ? { code: "bad-input", what: "not a network namespace", where: netns.path }
        : { code: "kernel", what: "network namespace cannot be entered", where: netns.path, cause },
    );
  }
  return () => {
    if (libc().setns(home.fd, cloneNewnet) < 0) Deno.exit(111);
    home[Symbol.dispose]();
  };
}
