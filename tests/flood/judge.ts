/** What a flow should do during a transition. */
export type Course = "passes" | "denied" | "opens" | "closes" | "disturbed" | "interrupted";

/** A flow's packets during a transition, as plain data. */
export interface FlowRecord {
  /** 0 not sent (a pod that is not there cannot), 1 sent and lost, 2 arrived, 3 arrived more than once; by tick. */
  fates: ArrayLike<number>;
  /** Milliseconds, by tick. */
  sentAt: ArrayLike<number>;
  /** What the flow did before; a disturbed one must do it again in the end. */
  before: boolean;
}

/** What is found of a flow in a transition. */
export interface Finding {
  sent: number;
  arrived: number;
  /** Packets that passed although policy denied them, before and after or once the flow was closed. */
  leaked: number;
  /** Packets that were lost although policy allowed them. */
  lost: number;
  /** From the transition's begin to the last packet that went otherwise than it does in the end; 0 = none did. */
  untilMs: number;
  /** Length of the time in which packets went wrong. */
  wrongMs: number;
  /** How often the verdict changed. */
  switches: number;
  wrong: string[];
}

/**
 * Judges a flow's packets. A flow that opens or closes must do so once, within the bound; a flow that is disturbed from
 * outside (somebody flushes our chains) may go wrong, but within the bound it must be as before. One that is interrupted is
 * allowed before and after, and not in between.
 */
export function judge({ fates, sentAt, before }: FlowRecord, course: Course, boundMs: number): Finding {
  const passed: boolean[] = [], at: number[] = [];
  let doubled = 0;
  for (let i = 0; i < fates.length; i++) {
    passed.push(fates[i]! >= 2);
    at.push(sentAt[i]!);
    if (fates[i] === 3) doubled++;
  }
  const may = course === "disturbed" || course === "interrupted";
  const final = course === "opens" || course === "passes" || (may && before);
  const arrived = passed.filter((p) => p).length;
  const begin = sentAt[0] ?? 0;
  const lastOther = passed.lastIndexOf(!final), firstOther = passed.indexOf(!final);
  const untilMs = lastOther < 0 ? 0 : at[lastOther]! - begin;
  const switches = passed.filter((p, i) => i > 0 && p !== passed[i - 1]).length;
  const wrong: string[] = [];
  let leaked = 0, lost = 0, wrongMs = 0;
  if (course === "opens" || course === "closes") {
    const first = passed.indexOf(final);
    const back = first < 0 ? 0 : passed.slice(first).filter((p) => p !== final).length;
    if (course === "opens") lost = back;
    else leaked = back;
    if (back > 0) {
      wrong.push(
        `${back} packets ${course === "opens" ? "lost after the first passed" : "passed after the first was denied"}`,
      );
    }
    if (first < 0) wrong.push(`it never ${course}`);
  } else {
    const others = passed.length === 0 ? 0 : passed.filter((p) => p !== final).length;
    if (course === "interrupted") lost = 0;
    else if (final) lost = others;
    else leaked = others;
    wrongMs = others === 0 ? 0 : at[lastOther]! - at[firstOther]!;
    if (others > 0 && !may) {
      wrong.push(
        `${others} of ${passed.length} ${final ? "were lost" : "passed"}, over ${wrongMs.toFixed(1)} ms, the first ${
          (at[firstOther]! - begin).toFixed(1)
        } ms after the begin`,
      );
    }
  }
  if (untilMs > boundMs) wrong.push(`it took ${untilMs.toFixed(0)} ms, more than ${boundMs}`);
  if (passed.length > 0 && passed.at(-1) !== final) wrong.push(`in the end it ${final ? "does not pass" : "passes"}`);
  if (doubled > 0) wrong.push(`${doubled} packets came out twice`);
  return { sent: passed.length, arrived, leaked, lost, untilMs, wrongMs, switches, wrong };
}
