"""Audits a market from outside: keeps its books again from the raw logs of a node and compares.

    python3 e2e/audit --rpc URL --market ADDRESS [--json FILE] [--withhold JOB:SEQ]

Exit status 0: every rule holds and every number matches. 1: it does not, and the line printed says where (the job and
the sequence number, for a job's event). 2: the audit itself could not be made.
"""

import argparse
import json
import sys

import events
from ledger import GROUP_NAMES, REASON_NAMES, SEAT_NAMES, Finding, Ledger
from node import Node


def reason(number):
    """The protocol's word for why a seat abstained; nothing where it did not."""
    return (REASON_NAMES[number] if number < len(REASON_NAMES) else "Other") if number else None


def summary(ledger):
    """The books as plain data: amounts are decimal strings of base units."""
    return {
        "tokens": {
            token: {
                "held": str(ledger.held(token)),
                "sink": str(ledger.sink[token]),
                "balances": {a: str(v) for (t, a), v in sorted(ledger.balance.items()) if t == token},
                "bonds": {
                    a: {"total": str(v), "locked": str(ledger.locked[(t, a)])}
                    for (t, a), v in sorted(ledger.bond.items()) if t == token
                },
            }
            for token in sorted(ledger.tokens)
        },
        "jobs": {
            job_id: {
                "buyer": job.buyer,
                "token": job.token,
                "ended": job.ended,
                "deposited": str(job.deposited),
                "escrow": str(job.escrow),
                "refunded": str(job.refunded),
                "fee": str(job.fee),
                "sunk": str(job.sunk),
                "events": job.seq,
                "groups": [
                    {
                        "group": number,
                        "state": GROUP_NAMES[group.state],
                        "root": group.root,
                        "seats": [
                            {
                                "provider": seat.provider,
                                "state": SEAT_NAMES[seat.state],
                                "abstained": reason(seat.reason),
                                "pay": str(seat.pay),
                                "paid": str(sum(e.paid for e in group.events if e.seat == index)),
                                "burned": str(sum(e.burned for e in group.events if e.seat == index)),
                                "bond": str(seat.bond),
                                "released": seat.settled,
                            }
                            for index, seat in enumerate(group.seats)
                        ],
                    }
                    for number, group in sorted(job.groups.items())
                ],
            }
            for job_id, job in ledger.jobs.items()
        },
    }


def main():
    parser = argparse.ArgumentParser(prog="audit", description=__doc__.split("\n")[0])
    parser.add_argument("--rpc", required=True, help="JSON-RPC address of a node")
    parser.add_argument("--market", required=True, help="address of the market contract")
    parser.add_argument("--json", help="write the books to this file ('-' for standard output)")
    parser.add_argument("--withhold", metavar="JOB:SEQ",
                        help="leave out the event of this job with this sequence number, as a lying node would")
    options = parser.parse_args()

    try:
        node = Node(options.rpc)
        found = [events.decode(log) for log in node.logs(options.market.lower())]
    except (OSError, RuntimeError, ValueError) as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    if options.withhold is not None:
        job_id, _, seq = options.withhold.partition(":")
        kept = [event for event in found if (event.fields.get("jobId"), str(event.fields.get("seq"))) != (job_id, seq)]
        if len(kept) != len(found) - 1:
            print(f"audit: there is no event {options.withhold} to withhold", file=sys.stderr)
            return 2
        found = kept

    ledger = Ledger()
    try:
        for event in found:
            ledger.apply(event)
        ledger.compare(node, options.market)
    except Finding as finding:
        print(f"audit: {finding}")
        return 1
    if options.json:
        text = json.dumps(summary(ledger), indent=2)
        if options.json == "-":
            print(text)
        else:
            with open(options.json, "w", encoding="utf-8") as file:
                file.write(text + "\n")
    ended = sum(job.ended for job in ledger.jobs.values())
    print(f"audit: {len(found)} events, {len(ledger.jobs)} jobs ({ended} ended), {len(ledger.tokens)} tokens: "
          "the books balance", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
