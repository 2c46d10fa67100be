import { Problem } from "../lib/problem.ts";

/** The C library's functions that we call. `…Later` runs on a thread of Deno's pool of 32 and loses errno. */
const symbols = {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  setns: { parameters: ["i32", "i32"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  getsockoptLater: {
    name: "getsockopt",
    parameters: ["i32", "i32", "i32", "buffer", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  pollLater: { name: "poll", parameters: ["buffer", "usize", "i32"], result: "i32", nonblocking: true },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  sendLater: { name: "send", parameters: ["i32", "buffer", "usize", "i32"], result: "isize", nonblocking: true },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  recvLater: { name: "recv", parameters: ["i32", "buffer", "usize", "i32"], result: "isize", nonblocking: true },
  malloc_trim: { parameters: ["usize"], result: "i32" },
  madvise: { parameters: ["usize", "usize", "i32"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
} as const;

type Libc = Deno.DynamicLibrary<typeof symbols>["symbols"];

/** Makes `load` run at the first call only. */
const once = <T>(load: () => T) => {
  let loaded: { value: T } | undefined;
  return () => (loaded ??= { value: load() }).value;
};

/**
 * The C library, loaded at the first call. glibc only: Deno has no musl build.
 * @throws Problem "unsupported" when there is no libc.so.6 or the process may not use it.
 */
export const libc: () => Libc = once(() => {
  try {
    return Deno.dlopen("libc.so.6", symbols).symbols;
  } catch (cause) {
    throw new Problem({ code: "unsupported", what: "the C library cannot be loaded", where: "libc.so.6", cause });
  }
});

/** errno of the call just before, on this thread; nothing may come between. */
export function errno(): number {
  const at = libc().__errno_location();
  return at === null ? 0 : new Deno.UnsafePointerView(at).getInt32();
}

const names: Record<number, string> = {
  1: "EPERM",
  2: "ENOENT",
  3: "ESRCH",
  4: "EINTR",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  16: "EBUSY",
  17: "EEXIST",
  19: "ENODEV",
  22: "EINVAL",
  24: "EMFILE",
  28: "ENOSPC",
  34: "ERANGE",
  90: "EMSGSIZE",
  95: "EOPNOTSUPP",
  97: "EAFNOSUPPORT",
  98: "EADDRINUSE",
  99: "EADDRNOTAVAIL",
  100: "ENETDOWN",
  101: "ENETUNREACH",
  105: "ENOBUFS",
  113: "EHOSTUNREACH",
};

/** The kernel refused a call or a message: errno and, when it gave one, its sentence. Becomes the cause of a Problem. */
export class KernelError extends Error {
  /** Positive errno, e.g. 17. */
  readonly errno: number;
  /** "EEXIST"; "errno 123" for those without a name here. */
  readonly symbol: string;
  constructor(number: number, sentence?: string) {
    const symbol = names[number] ?? `errno ${number}`;
    super(sentence ? `${symbol}, ${sentence}` : symbol);
    this.name = "KernelError";
    this.errno = number;
    this.symbol = symbol;
  }
}

/** Errno numbers by name, for comparing. */
export const E = {
  PERM: 1,
  NOENT: 2,
  SRCH: 3,
  INTR: 4,
  AGAIN: 11,
  BUSY: 16,
  EXIST: 17,
  NODEV: 19,
  INVAL: 22,
  OPNOTSUPP: 95,
  ADDRNOTAVAIL: 99,
  NOBUFS: 105,
} as const;

/** A zero-terminated string as C takes it. */
export const cString = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text + "\0");

/** The error of the call just before, which has answered -1. */
export const lastError = (): KernelError => new KernelError(errno());
