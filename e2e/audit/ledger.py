"""The market's books, kept again from its events alone, with every rule about money checked on the way.

A rule that does not hold raises `Finding`, which names the job and the event's sequence number where it has them.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import events

# Seat states, by the protocol's numbers.
EMPTY, AWARDED, COMMITTED, ABSTAINED, REVEALED, STORED = 0, 1, 2, 3, 4, 5
NO_SHOW, AGREED, UNSTORED, DISSENT, EXCUSED, UNRESOLVED = 6, 7, 8, 9, 10, 11
SEAT_NAMES = ("Empty Awarded Committed Abstained Revealed Stored NoShow Agreed Unstored Dissent Excused "
              "Unresolved Overruled").split()
# Group states.
RUNNING, REVEALING, GROUP_AGREED, CONTESTED, CREDITED, INCONCLUSIVE, REFUNDED = 1, 2, 5, 6, 7, 8, 9
# Reasons to abstain, by the protocol's numbers.
REASON_NAMES = ("None Inputs Image Key TemplateMismatch TimeLimit OutOfMemory OutputLimit Hardware Preempted "
                "Storage").split()
GROUP_NAMES = ("Filling Running Revealing Appealed Checking Agreed Contested Credited Inconclusive "
               "Refunded").split()
ZERO = "0x" + "00" * 20


class Finding(Exception):
    """A rule that the chain's own record breaks."""


@dataclass
class Seat:
    provider: str
    price: int
    charge_bps: int
    pay: int
    bond: int
    state: int = AWARDED
    root: str = None
    settled: bool = False
    reason: int = 0


@dataclass
class Group:
    units: int
    seats: list = field(default_factory=list)
    state: int = 0
    root: str = None
    events: list = field(default_factory=list)


@dataclass
class Job:
    buyer: str
    token: str
    terms: dict
    escrow: int
    deposited: int
    opened_in: str
    seq: int = 1
    groups: dict = field(default_factory=dict)
    ended: bool = False
    refunded: int = 0
    fee: int = 0
    sunk: int = 0  # of the escrow, the fee aside: charges of no-shows, shares of groups without a quorum

    def group(self, number):
        if number not in self.groups:
            size = self.terms["unitsPerGroup"]
            self.groups[number] = Group(units=min(size, self.terms["units"] - number * size))
        return self.groups[number]


def ceil_bps(amount, bps):
    """A share in basis points, rounded up."""
    return -(-amount * bps // 10_000)


class Ledger:
    """Balances, bonds, escrows and sink of every token, as the events say."""

    def __init__(self):
        self.balance = defaultdict(int)  # (token, account)
        self.bond = defaultdict(int)  # (token, provider)
        self.locked = defaultdict(int)  # (token, provider)
        self.leaving = defaultdict(int)  # (token, provider)
        self.sink = defaultdict(int)  # token
        self.jobs = {}
        self.intents = {}
        self.tokens = set()
        self.deposited = defaultdict(int)  # token
        self.withdrawn = defaultdict(int)  # token

    # -- following ---------------------------------------------------------------------------------------------

    def apply(self, event):
        """Takes one event into the books."""
        job_id = event.fields.get("jobId")
        if "seq" in event.fields:
            self._follow(job_id, event)
        handler = getattr(self, "_" + event.name, None)
        if handler is not None:
            handler(event)
        self._nobody_is_below_zero(event)

    def _follow(self, job_id, event):
        if event.name == "JobOpened":
            if event.seq != 1:
                raise Finding(f"job {job_id}: opened with sequence number {event.seq}, not 1")
            return
        if job_id not in self.jobs:
            raise Finding(f"job {job_id}: sequence number 1 (JobOpened) is missing; {event.name} came first")
        job = self.jobs[job_id]
        if event.seq != job.seq + 1:
            raise Finding(f"job {job_id}: sequence number {job.seq + 1} is missing; "
                          f"{event.name} in transaction {event.transaction} has {event.seq}")
        job.seq = event.seq

    def _once(self, account, intent, event):
        if int(intent, 16) == 0:
            return
        key = (account, intent)
        if key in self.intents:
            raise Finding(f"intent {intent} of {account} took effect twice: in {self.intents[key]} "
                          f"and in {event.transaction}")
        self.intents[key] = event.transaction

    def _nobody_is_below_zero(self, event):
        where = f"after {event.name} in transaction {event.transaction}"
        for key in self._touched:
            if self.balance[key] < 0:
                raise Finding(f"balance of {key[1]} is negative {where}")
            if not 0 <= self.locked[key] <= self.bond[key]:
                raise Finding(f"{key[1]} has {self.locked[key]} locked of a bond of {self.bond[key]} {where}")
        self._touched = set()

    _touched = set()

    def _touch(self, token, account):
        self.tokens.add(token)
        key = (token, account)
        self._touched = self._touched | {key}
        return key

    # -- accounts ----------------------------------------------------------------------------------------------

    def _Deposited(self, event):
        self._once(event.account, event.intent, event)
        self.balance[self._touch(event.token, event.account)] += event.amount
        self.deposited[event.token] += event.amount

    def _Withdrawn(self, event):
        self._once(event.account, event.intent, event)
        self.balance[self._touch(event.token, event.account)] -= event.amount
        self.withdrawn[event.token] += event.amount

    def _BondPosted(self, event):
        self._once(event.provider, event.intent, event)
        key = self._touch(event.token, event.provider)
        self.balance[key] -= event.amount
        self.bond[key] += event.amount

    def _UnbondRequested(self, event):
        self.leaving[self._touch(event.token, event.provider)] = event.amount

    def _Unbonded(self, event):
        key = self._touch(event.token, event.provider)
        self.bond[key] -= event.amount
        self.balance[key] += event.amount
        self.leaving[key] = 0

    # -- jobs --------------------------------------------------------------------------------------------------

    def _JobOpened(self, event):
        if event.jobId in self.jobs:
            raise Finding(f"job {event.jobId}: opened twice")
        self.balance[self._touch(event.token, event.buyer)] -= event.escrow
        self.jobs[event.jobId] = Job(event.buyer, event.token, events.terms(event.terms), event.escrow,
                                     event.escrow, event.transaction)

    def _JobToppedUp(self, event):
        self._once(event.payer, event.intent, event)
        job = self.jobs[event.jobId]
        self.balance[self._touch(job.token, event.payer)] -= event.amount
        job.escrow += event.amount
        job.deposited += event.amount

    def _SeatsFilled(self, event):
        job = self.jobs[event.jobId]
        key = self._touch(job.token, event.provider)
        for number in range(event.firstGroup, event.firstGroup + event.groups):
            group = job.group(number)
            if event.seat != len(group.seats):
                raise Finding(f"job {event.jobId}: seat {event.seat} of group {number} filled out of order")
            if any(seat.provider == event.provider for seat in group.seats):
                raise Finding(f"job {event.jobId}: {event.provider} holds two seats of group {number}")
            pay = event.pricePerUnit * group.units
            bond = ceil_bps(pay, job.terms["bondBps"])
            group.seats.append(Seat(event.provider, event.pricePerUnit, event.chargeBps, pay, bond))
            self.locked[key] += bond

    def _GroupsSealed(self, event):
        job = self.jobs[event.jobId]
        for number in range(event.firstGroup, event.firstGroup + event.groups):
            group = job.group(number)
            if len(group.seats) < job.terms["picked"]:
                raise Finding(f"job {event.jobId}: group {number} sealed with {len(group.seats)} seats")
            group.state = RUNNING

    def _JobEnded(self, event):
        job = self.jobs[event.jobId]
        if event.refunded != job.escrow:
            raise Finding(f"job {event.jobId}: {event.refunded} refunded of an escrow of {job.escrow}")
        unsettled = [n for n, group in job.groups.items() if group.state < CREDITED]
        if unsettled:
            raise Finding(f"job {event.jobId}: ended with groups {unsettled} open")
        job.ended, job.refunded, job.escrow = True, event.refunded, 0
        self.balance[self._touch(job.token, job.buyer)] += event.refunded

    # -- rounds ------------------------------------------------------------------------------------------------

    def _seat(self, event):
        seat = self.jobs[event.jobId].group(event.group).seats[event.seat]
        if seat.provider != event.provider:
            raise Finding(f"job {event.jobId}: {event.provider} spoke for the seat of {seat.provider}")
        return seat

    def _SeatCommitted(self, event):
        self._seat(event).state = COMMITTED

    def _SeatAbstained(self, event):
        seat = self._seat(event)
        seat.state, seat.reason = ABSTAINED, event.reason

    def _RevealStarted(self, event):
        self.jobs[event.jobId].group(event.group).state = REVEALING

    def _SeatRevealed(self, event):
        seat = self._seat(event)
        seat.root = event.rootA
        seat.state = REVEALED if event.gateway == ZERO else STORED

    def _ReceiptAttached(self, event):
        self._seat(event).state = STORED

    # -- judging and settlement --------------------------------------------------------------------------------

    def _GroupJudged(self, event):
        job = self.jobs[event.jobId]
        group = job.group(event.group)
        where = f"job {event.jobId}: group {event.group} judged {GROUP_NAMES[event.state]}"
        votes = defaultdict(int)
        for seat in group.seats:
            if seat.state in (REVEALED, STORED):
                votes[seat.root] += 1
        winners = [root for root, count in votes.items() if count >= job.terms["quorum"]]
        expected = GROUP_AGREED if winners else CONTESTED if votes else REFUNDED
        if event.state != expected:
            raise Finding(f"{where}, but {dict(votes)} of a quorum of {job.terms['quorum']} says "
                          f"{GROUP_NAMES[expected]}")
        for number, seat in enumerate(group.seats):
            state = event.seatStates >> (4 * number) & 15
            if state in (AGREED, UNRESOLVED) and seat.state != STORED:
                raise Finding(f"{where}: seat {number} counts as {SEAT_NAMES[state]} without a stored result")
            if state == AGREED and seat.root != event.root:
                raise Finding(f"{where}: seat {number} counts as agreed with another root")
            if state == NO_SHOW and seat.state != AWARDED:
                raise Finding(f"{where}: seat {number} spoke and counts as a no-show")
            seat.state = state
        group.state, group.root = event.state, event.root if winners else None

    def _SeatSettled(self, event):
        job = self.jobs[event.jobId]
        group = job.group(event.group)
        seat = self._seat(event)
        where = f"job {event.jobId}: seat {event.seat} of group {event.group} ({SEAT_NAMES[event.state]})"
        if seat.settled:
            raise Finding(f"{where} settled twice")
        seat.settled, seat.state = True, event.state
        charge = seat.pay * seat.charge_bps // 10_000
        burn = min(seat.bond, ceil_bps(seat.pay, job.terms["noShowBps"]))
        paid = {AGREED: seat.pay, EXCUSED: charge, UNRESOLVED: charge}.get(event.state, 0)
        if event.state == AGREED and (group.state != GROUP_AGREED or seat.root != group.root):
            raise Finding(f"{where} paid without agreement")
        no_show = event.state == NO_SHOW
        expected = (paid, charge if no_show else 0, burn if no_show else 0, seat.bond - (burn if no_show else 0))
        found = (event.paid, event.chargeToSink, event.burned, event.bondReleased)
        if found != expected:
            raise Finding(f"{where}: paid, charge to sink, burned and released are {found}, not {expected}")
        key = self._touch(job.token, event.provider)
        self.balance[key] += event.paid
        self.sink[job.token] += event.chargeToSink + event.burned
        self.bond[key] -= event.burned
        self.locked[key] -= event.burned + event.bondReleased
        group.events.append(event)

    def _GroupEnded(self, event):
        job = self.jobs[event.jobId]
        group = job.group(event.group)
        where = f"job {event.jobId}: group {event.group} ended {GROUP_NAMES[event.state]}"
        if len(group.events) != len(group.seats):
            raise Finding(f"{where} with {len(group.events)} of {len(group.seats)} seats settled")
        paid = sum(seat.paid for seat in group.events)
        charges = sum(seat.chargeToSink for seat in group.events)
        burned = sum(seat.burned for seat in group.events)
        fee = sum(seat.pay * job.terms["feeBps"] // 10_000 for seat in group.seats if seat.state == AGREED)
        unresolved = sum(
            ceil_bps(seat.pay - seat.pay * seat.charge_bps // 10_000, job.terms["unresolvedBurnBps"])
            for seat in group.seats if seat.state == UNRESOLVED)
        to_sink = charges + burned + fee + unresolved
        if (event.paid, event.fee, event.toSink) != (paid, fee, to_sink):
            raise Finding(f"{where}: paid, fee and to sink are {(event.paid, event.fee, event.toSink)}, "
                          f"not {(paid, fee, to_sink)}")
        ends = {GROUP_AGREED: CREDITED, CONTESTED: INCONCLUSIVE}.get(group.state, REFUNDED)
        if event.state != ends:
            raise Finding(f"{where} from {GROUP_NAMES[group.state]}")
        job.fee += fee
        job.sunk += to_sink - burned - fee
        job.escrow -= paid + to_sink - burned
        if job.escrow < 0:
            raise Finding(f"{where} and left the escrow below zero")
        self.sink[job.token] += to_sink - charges - burned
        group.state = event.state

    # -- against the node --------------------------------------------------------------------------------------

    def held(self, token):
        """What the market must hold of `token`."""
        escrows = sum(job.escrow for job in self.jobs.values() if job.token == token)
        of = lambda book: sum(amount for (other, _), amount in book.items() if other == token)
        return of(self.balance) + of(self.bond) + escrows + self.sink[token]

    def compare(self, node, market):
        """Compares the books with the token's balances and the market's own views."""
        # First what is missing: it would show in the numbers too, and they would not say where.
        jobs = {job_id: node.view(market, "jobOf(bytes32)", job_id) for job_id in self.jobs}
        for job_id, job in self.jobs.items():
            seq = jobs[job_id][4]
            if seq > job.seq:
                raise Finding(f"job {job_id}: sequence number {job.seq + 1} is missing; the market is at {seq}")
        for token in sorted(self.tokens):
            held = self.held(token)
            self._same(f"held of {token}", held, self.deposited[token] - self.withdrawn[token])
            self._same(f"heldOf({token})", node.view(market, "heldOf(address)", token)[0], held)
            self._same(f"sinkOf({token})", node.view(market, "sinkOf(address)", token)[0], self.sink[token])
            owned = node.view(token, "balanceOf(address)", market)[0]
            if owned < held:
                raise Finding(f"the market owes {held} of {token} and has {owned}")
        for token, account in sorted(set(self.balance) | set(self.bond)):
            key, who = (token, account), f"({account}, {token})"
            [balance] = node.view(market, "balanceOf(address,address)", account, token)
            self._same(f"balanceOf{who}", balance, self.balance[key])
            total, locked, leaving, _ = node.view(market, "bondOf(address,address)", account, token)
            self._same(f"bondOf{who}", (total, locked, leaving),
                       (self.bond[key], self.locked[key], self.leaving[key]))
        for job_id, job in self.jobs.items():
            self._same(f"escrow of job {job_id}", jobs[job_id][7], job.escrow)

    @staticmethod
    def _same(what, found, expected):
        if found != expected:
            raise Finding(f"{what} is {found}; the events say {expected}")
