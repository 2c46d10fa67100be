/** Tells what happens, with the time since the start, and counts what was checked. */
export class Story {
  readonly #start = performance.now();
  passed = 0;
  readonly failures: string[] = [];

  /** A step begins. */
  step(what: string): void {
    console.log(`\n[${this.#seconds()}] ${what}`);
  }

  /** Something that was seen. */
  say(text: string): void {
    console.log(text.replace(/\n$/, "").replace(/^/gm, "         "));
  }

  /** Something that must hold. */
  check(what: string, holds: boolean, seen = ""): void {
    if (holds) this.passed++;
    else this.failures.push(what);
    this.say(`${holds ? "ok    " : "FAILED"} ${what}${seen === "" ? "" : `: ${seen}`}`);
  }

  /** What a command showed, under its own words. */
  show(command: string, output: string): void {
    this.say(`\n$ ${command}\n${output.trimEnd().replace(/^/gm, "  ")}`);
  }

  /** Says how many checks passed, and which did not. @returns exit code. */
  end(): number {
    console.log(`\n${this.passed} of ${this.passed + this.failures.length} checks passed`);
    for (const f of this.failures) console.log(`FAILED ${f}`);
    return this.failures.length > 0 ? 1 : 0;
  }

  #seconds(): string {
    return `${((performance.now() - this.#start) / 1000).toFixed(1).padStart(5)} s`;
  }
}
