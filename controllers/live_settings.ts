import { sameJson } from "../lib/json64.ts";
import type { KubeControllersConfigurationSpec as Spec } from "../datastore/kinds/kube_controllers_configuration.ts";
import { defaultSpec, type Running, settingsOf } from "./settings.ts";

/** The settings in force, as they change. */
export class LiveSettings {
  readonly #env: (name: string) => string | undefined;
  #running: Running;
  #changed = Promise.withResolvers<void>();

  /** @throws Problem "bad-input" for a variable that cannot be read. */
  constructor(env: (name: string) => string | undefined) {
    this.#env = env;
    this.#running = settingsOf(defaultSpec, env).running;
  }

  get running(): Running {
    return this.#running;
  }

  /** What the environment says, for who tells it. */
  get env(): (name: string) => string | undefined {
    return this.#env;
  }

  /** Takes what is stored; true when anything is different now. */
  take(spec: Spec): boolean {
    const { running } = settingsOf(spec, this.#env);
    if (sameJson(running, this.#running)) return false;
    this.#running = running;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
    return true;
  }

  /** Resolves at the next change, or at the signal. */
  async changed(signal: AbortSignal): Promise<void> {
    const over = Promise.withResolvers<void>(), stop = () => over.resolve();
    if (signal.aborted) return;
    signal.addEventListener("abort", stop, { once: true });
    await Promise.race([this.#changed.promise, over.promise]);
    signal.removeEventListener("abort", stop);
  }
}
