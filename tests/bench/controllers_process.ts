import { systemClock } from "../../lib/clock.ts";
import { tortie } from "../lab/agent_world.ts";
import { wait } from "../lab/wait.ts";

/** `tortie controllers` in a process of its own, whose metrics are read. */
export class ControllersProcess implements AsyncDisposable {
  #child: Deno.ChildProcess;
  readonly #log: Promise<void>;
  #text = "";
  /** `performance.now()` of its start. */
  readonly began = performance.now();

  /** @param metricsPort the one that its settings name. */
  constructor(env: Record<string, string>, private readonly metricsPort: number) {
    const [program, ...args] = tortie();
    // Out of the sources, with V8's flags of the binary.
    const flagged = args[0] === "run" ? ["run", "--v8-flags=--max-semi-space-size=4", ...args.slice(1)] : args;
    const whole = ["--pdeathsig", "KILL", "--", program!, ...flagged, "controllers"];
    const pipes = { stdin: "null", stdout: "null", stderr: "piped" } as const;
    this.#child = new Deno.Command("setpriv", { args: whole, env, ...pipes }).spawn();
    this.#log = this.#read();
  }

  get pid(): number {
    return this.#child.pid;
  }

  async #read(): Promise<void> {
    for await (const chunk of this.#child.stderr.pipeThrough(new TextDecoderStream())) this.#text += chunk;
  }

  /** Waits until it works, follows everything, and has nothing more to do. @returns milliseconds since its start. */
  async inOrder(writes: number): Promise<number> {
    const look = async () => {
      const lines = (await (await fetch(`http://127.0.0.1:${this.metricsPort}/metrics`)).text()).split("\n");
      const values = (name: string) =>
        lines.filter((l) => l.startsWith(`${name}{`)).map((l) => Number(l.split(" ").at(-1)));
      const sum = (name: string) => values(name).reduce((a, b) => a + b, 0);
      const follows = values("tortie_kubernetes_connected");
      return lines.includes("tortie_controllers_working 1") && follows.length >= 9 && follows.every((v) => v === 1) &&
        sum("tortie_controller_waiting") + sum("tortie_controller_failing") === 0 &&
        sum("tortie_controller_writes_total") >= writes;
    };
    const options = { deadlineMs: 180_000, everyMs: 50 };
    await wait("controllers that have done everything", look, options).catch((error) => {
      throw new Error(`${error.message}\n${this.#text.slice(-4_000)}`);
    });
    return performance.now() - this.began;
  }

  async end(): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#child.status;
    await this.#log;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch { /* it had ended */ }
    await this.#child.status;
    await this.#log;
    await systemClock.sleep(0);
  }
}
