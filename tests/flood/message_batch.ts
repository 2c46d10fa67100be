/** `struct mmsghdr` on 64-bit Linux: a msghdr of 56 bytes, then how many bytes were sent or received. */
const headerBytes = 64, lengthAt = 56, iovecBytes = 16;

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  sendmmsg: { parameters: ["i32", "pointer", "u32", "i32"], result: "i32" },
  recvmmsg: { parameters: ["i32", "buffer", "u32", "i32", "pointer"], result: "i32" },
});
const dontWait = 0x40;

/** Several packets for one system call. Its buffers are pinned as long as it lives. */
export class MessageBatch {
  readonly #headers: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #at: Deno.PointerValue[];
  /** Held so that they stay where their pointers say. */
  readonly #held: unknown[];

  /** @param messages buffers, and for each the address that it is sent to. */
  constructor(readonly messages: readonly { bytes: Uint8Array<ArrayBuffer>; to?: Uint8Array<ArrayBuffer> }[]) {
    this.#headers = new Uint8Array(headerBytes * messages.length);
    this.#view = new DataView(this.#headers.buffer);
    const vectors = new Uint8Array(iovecBytes * messages.length), vectorView = new DataView(vectors.buffer);
    const addressOf = (bytes: Uint8Array<ArrayBuffer>) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
    messages.forEach(({ bytes, to }, i) => {
      vectorView.setBigUint64(i * iovecBytes, addressOf(bytes), true);
      vectorView.setBigUint64(i * iovecBytes + 8, BigInt(bytes.length), true);
      if (to) {
        this.#view.setBigUint64(i * headerBytes, addressOf(to), true);
        this.#view.setUint32(i * headerBytes + 8, to.length, true);
      }
      this.#view.setBigUint64(i * headerBytes + 16, addressOf(vectors) + BigInt(i * iovecBytes), true);
      this.#view.setBigUint64(i * headerBytes + 24, 1n, true);
    });
    const base = addressOf(this.#headers);
    this.#at = messages.map((_, i) => Deno.UnsafePointer.create(base + BigInt(i * headerBytes)));
    this.#held = [vectors];
  }

  /** Sends all. @param refused is told the index of each that the kernel did not take (no route, for instance). */
  send(fd: number, refused: (index: number) => void): void {
    for (let at = 0; at < this.messages.length;) {
      const sent = libc.sendmmsg(fd, this.#at[at]!, this.messages.length - at, dontWait);
      if (sent > 0) at += sent;
      else refused(at++);
    }
  }

  /** Takes what is there. @returns how many messages were filled. */
  receive(fd: number): number {
    return Math.max(0, libc.recvmmsg(fd, this.#headers, this.messages.length, dontWait, null));
  }

  /** Bytes in message `index` after a receive(). */
  lengthOf(index: number): number {
    return this.#view.getUint32(index * headerBytes + lengthAt, true);
  }
}
