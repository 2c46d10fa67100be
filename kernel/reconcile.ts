/** One sort of thing in the outside world that we own a marked part of. 40-150 lines, no state of its own. */
export interface Port<K, V> {
  /** "route main ip4": name in logs, metrics and health. */
  readonly name: string;
  /** What is there and carries our mark; a throw means unknown, and then nothing is touched. */
  list(): Promise<Map<K, V>>;
  same(have: V, want: V): boolean;
  /** One batch; answers which keys failed and why, the others hold. */
  apply(put: [K, V][], remove: K[]): Promise<Map<K, Error>>;
}
