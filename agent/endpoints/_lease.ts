import type { Cidr, Ip } from "../../lib/ip.ts";
import { isProblem } from "../../lib/problem.ts";
import type { AdditionParts } from "./_addition.ts";
import { assignRequest } from "./_addition.ts";
import type { LeaseRequest } from "./request.ts";
import { refuseWhenLocked } from "./_release.ts";

const patienceMs = 1_500;

/** One assignment without endpoint. Like an Addition it is in the journal until etcd's answer is known. */
export class Lease {
  constructor(private readonly parts: AdditionParts, private readonly request: LeaseRequest) {}

  /** @throws Problem; nothing is left, or the journal has it. */
  async run(): Promise<{ ip: Ip; block: Cidr }[]> {
    const { parts, request } = this;
    const { attachment } = request;
    refuseWhenLocked(parts.mirror);
    await parts.journal.begin({ attachment }, parts.clock.now());
    try {
      parts.step("recorded");
      const work = () => parts.allocator.assign([assignRequest(request, parts.node)]);
      const [outcome] = await parts.patience.within(patienceMs, work, "ADD");
      if (outcome!.commit) parts.mirror.learn(outcome!.commit.events);
      if (outcome!.problem) throw outcome!.problem;
      parts.step("committed");
      await parts.leases.add(attachment);
      await parts.journal.drop(attachment);
      return outcome!.addresses;
    } catch (error) {
      if (isProblem(error, "unavailable")) {
        await parts.journal.mustGo({ attachment }, parts.clock.now());
        parts.later();
      } else await parts.journal.drop(attachment);
      throw error;
    }
  }
}
