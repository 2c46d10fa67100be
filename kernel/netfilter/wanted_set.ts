import type { Family } from "../../lib/ip.ts";
import { memberText, type SetType } from "./set_members.ts";
import type { SetHeader } from "./set_messages.ts";

/** A set as it should be. */
export interface WantedSet {
  readonly type: SetType;
  /** Most members that the kernel is to take. */
  readonly maxelem: number;
  readonly members: Iterable<string>;
  /** A member more denies something and a member less allows it; default false: the other way round. */
  readonly closes?: boolean;
}

/** Which changes of a set's members are made now. */
export type MemberPart = "all" | "add" | "remove";

/** How a set is brought to what is wanted. */
export type SetPlan =
  | { do: "nothing" }
  /** It is not there, or is of another type. */
  | { do: "create"; destroyFirst: boolean }
  /** Members one by one. */
  | { do: "change" }
  /** All of it under another name, then the two change places in one step. */
  | { do: "replace" }
  | { do: "refuse"; why: string };

/** From so many changed members on a set is replaced as a whole, so that no packet sees it half changed. */
const replaceFrom = 5_000;

/**
 * One set: what is wanted, what is in the kernel, and the members in which they differ. Holds each member once, however
 * many there are.
 */
export class SetState {
  /** Undefined = there should be none. */
  want: { type: SetType; maxelem: number; members: Set<string> } | undefined;
  /** As it is in the kernel by what we know: `elements` is counted along with our own changes. */
  have: SetHeader | undefined;
  /** The members in the kernel have to be read before anything is done. */
  unknown = false;
  /** Members that the kernel lacks, and those that it has too many. */
  readonly add = new Set<string>();
  readonly remove = new Set<string>();
  /** Members that the kernel refuses; they are in `add` as well. */
  readonly refused = new Map<string, string>();
  /** Texts that are no members of such a set. */
  readonly bad = new Set<string>();
  /** See WantedSet. */
  closes = false;
  /** What plan() speaks of; the other part is left for later. A set that has to be created is created whole. */
  part: MemberPart = "all";

  constructor(readonly name: string, readonly family: Family) {}

  /** Wants the whole set. @returns whether that is new. */
  wantAll(set: WantedSet): boolean {
    const before = this.want;
    this.closes = set.closes ?? false;
    this.bad.clear();
    const members = new Set<string>();
    for (const text of set.members) this.#take(text, set.type, (m) => members.add(m));
    this.want = { type: set.type, maxelem: set.maxelem, members };
    if (before?.type !== set.type) {
      this.#startOver();
      return true;
    }
    for (const m of members) if (!before.members.has(m)) this.#lack(m);
    for (const m of before.members) if (!members.has(m)) this.#excess(m);
    return before.maxelem !== set.maxelem || this.add.size + this.remove.size > 0;
  }

  /** Wants some members more and some less. */
  change(add: Iterable<string>, remove: Iterable<string>): void {
    const { want } = this;
    if (!want) return;
    for (const text of remove) {
      this.bad.delete(text);
      this.#take(text, want.type, (m) => want.members.delete(m) && this.#excess(m), false);
    }
    for (const text of add) {
      this.#take(text, want.type, (m) => {
        if (want.members.has(m)) return;
        want.members.add(m);
        this.#lack(m);
      });
    }
  }

  /** Wants no such set. */
  wantNone(): void {
    this.want = undefined;
    this.#startOver();
  }

  #startOver(): void {
    this.unknown = this.have !== undefined;
    this.#forget();
    if (!this.unknown) this.want?.members.forEach((m) => this.add.add(m));
  }

  #forget(): void {
    this.add.clear();
    this.remove.clear();
    this.refused.clear();
  }

  #take(text: string, type: SetType, then: (member: string) => void, tell = true): void {
    const member = memberText(type, this.family, text);
    if (member !== undefined) then(member);
    else if (tell) this.bad.add(text);
  }

  #lack(member: string): void {
    if (!this.remove.delete(member)) this.add.add(member);
  }

  #excess(member: string): void {
    this.refused.delete(member);
    if (!this.add.delete(member)) this.remove.add(member);
  }

  /** These members, read from the kernel, are what we know to be there. */
  isMadeOf(members: ReadonlySet<string>): boolean {
    const { want, add, remove } = this;
    if (!want || members.size !== want.members.size - add.size + remove.size) return false;
    for (const m of members) if (!want.members.has(m) && !remove.has(m)) return false;
    return true;
  }

  /** The set is in the kernel with these members, or not at all. */
  found(have: SetHeader | undefined, members: Set<string> | undefined): void {
    this.have = members ? have : undefined;
    this.unknown = false;
    this.#forget();
    if (!this.want) return;
    for (const m of this.want.members) if (!members?.has(m)) this.add.add(m);
    if (!members) return;
    for (const m of members) if (!this.want.members.has(m)) this.remove.add(m);
    this.have!.elements = members.size;
  }

  /** The kernel holds a set that was made so. What is wanted may have changed since. */
  made({ type, maxelem, members }: { type: SetType; maxelem: number; members: Set<string> }): void {
    const { name, family } = this;
    const references = this.have?.references ?? 0;
    const refused = [...this.refused];
    this.found({ name, type, family, maxelem, elements: members.size, references }, members);
    for (const [member, why] of refused) if (this.add.has(member)) this.refused.set(member, why);
  }

  /**
   * All that the set is to hold once the changes of its part are made, for one that is made anew. What the other part takes
   * away later is still in it, even where there is no room for both.
   */
  whole(): { type: SetType; maxelem: number; members: Set<string> } {
    const { type, maxelem, members } = this.want!;
    const whole = new Set(members);
    for (const m of this.refused.keys()) whole.delete(m);
    if (this.have && this.part === "add") { for (const m of this.remove) whole.add(m); }
    return { type, maxelem: Math.max(maxelem, whole.size), members: whole };
  }

  /** The kernel has taken a member; it may be unwanted by now. */
  added(member: string): void {
    if (!this.add.delete(member) && !this.want?.members.has(member)) this.remove.add(member);
    if (this.have) this.have.elements++;
  }

  /** The kernel has dropped a member; it may be wanted by now. */
  removed(member: string): void {
    if (!this.remove.delete(member) && this.want?.members.has(member)) this.add.add(member);
    if (this.have) this.have.elements--;
  }

  /** The part whose changes deny more than before, or the one whose changes allow more. */
  partThat(what: "denies" | "allows"): MemberPart {
    return this.closes === (what === "denies") ? "add" : "remove";
  }

  /** Members to add now, and to remove now. */
  get adding(): ReadonlySet<string> {
    return this.part === "remove" ? none : this.add;
  }
  get removing(): ReadonlySet<string> {
    return this.part === "add" ? none : this.remove;
  }

  /** What is to be done; to be asked when it is not `unknown`. */
  plan(): SetPlan {
    const { want, have, adding: add, removing: remove } = this;
    if (!want) return { do: "nothing" };
    if (want.members.size > want.maxelem) {
      return { do: "refuse", why: `${want.members.size} members are more than the ${want.maxelem} that are allowed` };
    }
    if (!have) return { do: "create", destroyFirst: false };
    if (have.type !== want.type || have.family !== this.family) return { do: "create", destroyFirst: true };
    const changes = add.size + remove.size;
    const whole = this.part === "all";
    if (whole && (have.maxelem !== want.maxelem || changes > replaceFrom)) return { do: "replace" };
    if (add.size > this.refused.size && have.elements + add.size > want.maxelem) return { do: "replace" };
    const refused = this.part === "remove" ? 0 : this.refused.size;
    return changes > refused ? { do: "change" } : { do: "nothing" };
  }
}

const none: ReadonlySet<string> = new Set();
