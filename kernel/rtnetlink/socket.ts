/** Placeholder of the signature; see open(). A netlink route socket of the namespace it was opened in. */
export class RtSocket implements Disposable {
  /** Opens one in the namespace at `netns`, or in the thread's own. @throws Problem "kernel", "not-found". */
  static open(_netns?: string): RtSocket {
    throw new Error("not built yet");
  }

  [Symbol.dispose](): void {
    throw new Error("not built yet");
  }
}
