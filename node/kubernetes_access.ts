import { Backoff } from "../lib/backoff.ts";
import { readIfThere, writeDurably } from "../lib/durable_file.ts";
import { isProblem, messageOf, Problem } from "../lib/problem.ts";
import { readAccountToken, renewalMs } from "../datastore/kubernetes/account_token.ts";
import { type KubernetesClient, KubernetesClients } from "../datastore/kubernetes/client.ts";
import { isOurKubeconfig, kubeconfigText } from "../datastore/kubernetes/kubeconfig.ts";
import type { NodeParts } from "./parts.ts";

/** How long a token shall be good for: an API server that is away for a day does no harm. */
export const tokenLifeSeconds = 48 * 3600;

/** Between two looks at the kubeconfig. */
const lookMs = 60_000;

/**
 * A kubeconfig for a service account, with a new token that is bound to its life.
 * @param ask who asks for it. @throws Problem of KubernetesClient.
 */
export async function newKubeconfig(ask: KubernetesClient, namespace: string, account: string): Promise<string> {
  const token = await ask.requestToken(namespace, account, tokenLifeSeconds);
  return kubeconfigText({ ...ask.access(), token });
}

/**
 * The text if it is a kubeconfig of ours whose token need not be renewed yet; else undefined.
 * @throws Problem "exists" for a file that is not ours.
 */
export function freshKubeconfig(text: string | undefined, file: string, nowMs: number): string | undefined {
  if (text === undefined) return undefined;
  if (!isOurKubeconfig(text)) {
    throw new Problem({ code: "exists", what: "a kubeconfig that is not tortie's", where: file, todo: "Move it away" });
  }
  const token = tokenIn(text);
  return token && renewalMs(token) > nowMs ? text : undefined;
}

const tokenIn = (text: string) => readAccountToken(/^ {4}token: "([^"]+)"$/m.exec(text)?.[1] ?? "");

/**
 * Renews the token in the kubeconfig of KUBECONFIG when a third of its life is over, until the signal. Nothing happens to a
 * kubeconfig that `tortie install --kubernetes` did not write. While it cannot be renewed the old one stays in force.
 */
export async function keepKubernetesAccess(parts: Pick<NodeParts, "settings" | "clock" | "log" | "signal">) {
  const { settings, clock, signal } = parts;
  const file = settings.get("KUBECONFIG"), log = parts.log.child("access");
  if (!file) return;
  const env = (name: string) => settings.get(name);
  using clients = new KubernetesClients({ clock });
  const backoff = new Backoff({ firstMs: 1_000, maxMs: lookMs, clock });
  while (!signal.aborted) {
    try {
      if (await renewIfDue(file, clients, env, clock.now())) log.info("Kubernetes token renewed", { file });
      backoff.reset();
      await clock.sleep(lookMs, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!isProblem(error)) throw error;
      log.warn("Kubernetes token cannot be renewed now, the old one stays", { file, why: messageOf(error) });
      await backoff.wait(signal).catch(() => {}); // aborted: the loop's condition ends it
    }
  }
}

/** @returns true when it was renewed. */
async function renewIfDue(
  file: string,
  clients: KubernetesClients,
  env: (name: string) => string | undefined,
  nowMs: number,
): Promise<boolean> {
  const text = await readIfThere(file);
  const token = text === undefined || !isOurKubeconfig(text) ? undefined : tokenIn(text);
  if (!token || renewalMs(token) > nowMs) return false;
  const { namespace, account } = token;
  const renewed = await newKubeconfig(await clients.for({ kubeconfig: file }, env), namespace, account)
    .catch(async (error) => {
      // A host that slept over its token's end: the account of the pod that we run in, if we do, may ask as well.
      if (!isProblem(error, "unauthorized") || !env("KUBERNETES_SERVICE_HOST")) throw error;
      return await newKubeconfig(await clients.for({}, env), namespace, account);
    });
  await writeDurably(file, renewed, 0o600);
  return true;
}
