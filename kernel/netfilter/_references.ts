/** Which chains are in use: those that a hook leads to, and those that a chain in use leads to. */
export class References {
  readonly #refs = new Map<string, readonly string[]>();
  readonly #users = new Map<string, number>();

  /** @returns true while something in use leads to the chain. */
  isUsed(name: string): boolean {
    return this.#users.has(name);
  }

  /** All chains in use. */
  used(): Iterable<string> {
    return this.#users.keys();
  }

  /** Gives the chains that `name` leads to. @returns chains that came into use or went out of it. */
  set(name: string, refs: readonly string[]): Set<string> {
    const touched = new Set<string>();
    const before = this.#refs.get(name) ?? [];
    if (refs.length > 0) this.#refs.set(name, refs);
    else this.#refs.delete(name);
    if (!this.isUsed(name)) return touched;
    for (const ref of refs) this.#gain(ref, touched);
    for (const ref of before) this.#lose(ref, touched);
    return touched;
  }

  /** A hook leads to these, instead of to those before. */
  setRoots(roots: readonly string[], before: readonly string[]): Set<string> {
    const touched = new Set<string>();
    for (const root of roots) this.#gain(root, touched);
    for (const root of before) this.#lose(root, touched);
    return touched;
  }

  #gain(name: string, touched: Set<string>): void {
    const users = this.#users.get(name) ?? 0;
    this.#users.set(name, users + 1);
    if (users > 0) return;
    touched.add(name);
    for (const ref of this.#refs.get(name) ?? []) this.#gain(ref, touched);
  }

  #lose(name: string, touched: Set<string>): void {
    const users = this.#users.get(name)!;
    if (users > 1) return void this.#users.set(name, users - 1);
    this.#users.delete(name);
    touched.add(name);
    for (const ref of this.#refs.get(name) ?? []) this.#lose(ref, touched);
  }
}
