//! A job's terms: what is computed, by whom it must be agreed, by when, and for how much.
//!
//! Owns the structs of PROTOCOL.md T-1, their hash (I-2), and the guards of its section 5, so that terms that
//! the contract would refuse are never sent. How units are cut is in [`crate::geometry`], money in
//! [`crate::money`].

use serde::{Deserialize, Serialize};

use crate::amount::{BPS_ONE, Bps, TokenAmount};
use crate::eip712::{Encoder, StructHash};
use crate::ids::{Address, ClassId, Hash32};
use crate::quantity::{Seconds, Slots, Units, UnixSeconds};

/// Most seats of a group over all rounds.
pub const MAX_SEATS: u8 = 8;
/// Most gateways that a job names.
pub const MAX_JOB_GATEWAYS: usize = 4;
/// Most gateways that an offer names.
pub const MAX_OFFER_GATEWAYS: usize = 8;
/// Most groups of a job.
pub const MAX_GROUPS: u32 = 10_000;
/// Most entries, groups or fills in one call.
pub const MAX_ENTRIES_PER_CALL: usize = 256;

/// No duration of a job may be longer (PROTOCOL.md G-1, G-5, G-6).
const MAX_DURATION: u64 = (1 << 31) - 1;
const MAX_AMOUNT_96: u128 = (1 << 96) - 1;
const MAX_RESERVE_88: u128 = (1 << 88) - 1;

const SHAPE: &str = "Shape(uint32 units,uint32 unitsPerSlice,uint32 slicesPerGroup,uint16 slotsPerSeat,\
    uint32 secondsPerUnit,bytes32 classId)";
const REDUNDANCY: &str = "Redundancy(uint8 policy,uint8 quorum,uint8 picked,uint8 maxSeats,uint8 drawn,\
    uint8 maxRounds,bool canary,uint8 entropy,uint32 auditFloorPpm,uint16 collusionBps)";
const WINDOWS: &str = "Windows(uint64 openUntil,uint32 commitGrace,uint32 revealWindow,uint32 appealWindow,\
    uint32 availabilityWindow,uint32 cancelGrace,uint32 retention)";
const PRICING: &str = "Pricing(address token,uint96 pickedCap,uint96 drawnCap,uint24 bondBps,uint16 noShowBps,\
    uint16 feeBps,uint16 inconclusiveBps,uint16 unresolvedBurnBps)";
const CONTENT: &str = "Content(bytes32 templateDigest,bytes32 templateAddress,bytes32 keyCommitment,\
    bytes32 secretsRoot,bytes32 spotChecksRoot,bytes32 comparator,address verifier)";
const TERMS: &str = "Terms(Shape shape,Redundancy redundancy,Windows windows,Pricing pricing,Content content,\
    address[] gateways)";

/// How a group's result is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Policy {
    /// A number of seats must show the same result. The only policy that this version of the market opens.
    Quorum,
    /// One seat, audited by chance.
    Sampled,
    /// Quorum for the unproven, sampled for the proven.
    Adaptive,
    /// A verifier that job and offer named signs a verdict.
    Attested,
}

impl Policy {
    /// Its number on chain.
    pub const fn number(self) -> u8 {
        match self {
            Self::Quorum => 0,
            Self::Sampled => 1,
            Self::Adaptive => 2,
            Self::Attested => 3,
        }
    }

    /// The policy of a number on chain.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Quorum),
            1 => Some(Self::Sampled),
            2 => Some(Self::Adaptive),
            3 => Some(Self::Attested),
            _ => None,
        }
    }

    /// Its bit in the set of policies that an offer accepts.
    pub const fn bit(self) -> u8 {
        match self {
            Self::Quorum => 1,
            Self::Sampled => 2,
            Self::Adaptive => 4,
            Self::Attested => 8,
        }
    }
}

/// What work there is and how it is cut (T-1a).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shape {
    /// Work units of the job, indexed from 0.
    pub units: Units,
    /// Consecutive units in a slice; the last slice may be shorter.
    pub units_per_slice: Units,
    /// Consecutive slices in a group; the last group may be shorter.
    pub slices_per_group: u32,
    /// Slots that a seat takes of its offer for each group: slices that it runs at once.
    pub slots_per_seat: Slots,
    /// Hard limit of one unit, and what a unit is priced by.
    pub seconds_per_unit: Seconds,
    /// The class that every seat must be of; zero where the comparator tolerates several.
    pub class_id: ClassId,
}

/// Who must agree (T-1b).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redundancy {
    /// How a result is trusted.
    pub policy: Policy,
    /// Seats that must show the same root.
    pub quorum: u8,
    /// Picked seats of round 0; a group with fewer cannot be sealed.
    pub picked: u8,
    /// Seats over all rounds.
    pub max_seats: u8,
    /// Drawn seats of an audit round.
    pub drawn: u8,
    /// Rounds, round 0 included.
    pub max_rounds: u8,
    /// Whether groups after the first can be sealed only once the first is judged agreed.
    pub canary: bool,
    /// Which source of block entropy draws seats: 0 block hash, 1 prevrandao, 2 beacon.
    pub entropy: u8,
    /// Audit probability never falls below this, in millionths.
    pub audit_floor_ppm: u32,
    /// Share of drawn seats that is assumed to collude.
    pub collusion_bps: Bps,
}

/// Time. All but `open_until` are durations (T-1c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Windows {
    /// Fills and seals are taken until then.
    pub open_until: UnixSeconds,
    /// Added to a group's run time for its commit deadline.
    pub commit_grace: Seconds,
    /// How long seats have to reveal.
    pub reveal_window: Seconds,
    /// How long a judged group may be appealed.
    pub appeal_window: Seconds,
    /// How long the stored results of an agreed group may be challenged.
    pub availability_window: Seconds,
    /// After a cancel notice seats may still commit for this long; at least a group's run time.
    pub cancel_grace: Seconds,
    /// A receipt must promise storage at least this long from the reveal.
    pub retention: Seconds,
}

/// Money (T-1d).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pricing {
    /// The token that is paid and bonded in.
    pub token: Address,
    /// Highest price per unit of a picked seat.
    pub picked_cap: TokenAmount,
    /// Highest price per unit of a drawn seat; prices the reserve for appeals.
    pub drawn_cap: TokenAmount,
    /// A seat's bond as a share of its pay; may exceed one.
    pub bond_bps: Bps,
    /// What a no-show burns of its bond, as a share of its pay.
    pub no_show_bps: Bps,
    /// The market's fee at opening, on top of pay.
    pub fee_bps: Bps,
    /// Share of pay to the seats that revealed where drawn seats contradicted each other.
    pub inconclusive_bps: Bps,
    /// Share of what is left after charges that goes to the sink where neither quorum nor drawn seats were had.
    pub unresolved_burn_bps: Bps,
}

/// What is computed, fixed for all seats (T-1e).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Content {
    /// BLAKE3 digest of the plaintext template.
    pub template_digest: Hash32,
    /// BLAKE3 digest of the template as stored, encrypted under the job key.
    pub template_address: Hash32,
    /// Commitment to the job key (I-21).
    pub key_commitment: Hash32,
    /// Root of the buyer's secrets per group and round, or zero.
    pub secrets_root: Hash32,
    /// Root of the buyer's hash-committed spot-check answers, or zero.
    pub spot_checks_root: Hash32,
    /// How results are compared; zero is byte equality.
    pub comparator: Hash32,
    /// Who attests where the comparator tolerates differences, or zero.
    pub verifier: Address,
}

/// Everything that a job was opened with. Its struct hash is the job's terms hash (I-2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Terms {
    /// What work there is and how it is cut.
    pub shape: Shape,
    /// Who must agree.
    pub redundancy: Redundancy,
    /// By when.
    pub windows: Windows,
    /// For how much.
    pub pricing: Pricing,
    /// What is computed.
    pub content: Content,
    /// Gateways whose receipts the job accepts.
    pub gateways: Vec<Address>,
}

impl StructHash for Shape {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(SHAPE, &[])
            .uint(self.units.get())
            .uint(self.units_per_slice.get())
            .uint(self.slices_per_group)
            .uint(self.slots_per_seat.get())
            .uint(self.seconds_per_unit.get())
            .hash(self.class_id)
            .finish()
    }
}

impl StructHash for Redundancy {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(REDUNDANCY, &[])
            .uint(self.policy.number())
            .uint(self.quorum)
            .uint(self.picked)
            .uint(self.max_seats)
            .uint(self.drawn)
            .uint(self.max_rounds)
            .boolean(self.canary)
            .uint(self.entropy)
            .uint(self.audit_floor_ppm)
            .uint(self.collusion_bps.get())
            .finish()
    }
}

impl StructHash for Windows {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(WINDOWS, &[])
            .uint(self.open_until.get())
            .uint(self.commit_grace.get())
            .uint(self.reveal_window.get())
            .uint(self.appeal_window.get())
            .uint(self.availability_window.get())
            .uint(self.cancel_grace.get())
            .uint(self.retention.get())
            .finish()
    }
}

impl StructHash for Pricing {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(PRICING, &[])
            .address(self.token)
            .uint(self.picked_cap.base_units())
            .uint(self.drawn_cap.base_units())
            .uint(self.bond_bps.get())
            .uint(self.no_show_bps.get())
            .uint(self.fee_bps.get())
            .uint(self.inconclusive_bps.get())
            .uint(self.unresolved_burn_bps.get())
            .finish()
    }
}

impl StructHash for Content {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(CONTENT, &[])
            .hash(self.template_digest)
            .hash(self.template_address)
            .hash(self.key_commitment)
            .hash(self.secrets_root)
            .hash(self.spot_checks_root)
            .hash(self.comparator)
            .address(self.verifier)
            .finish()
    }
}

impl StructHash for Terms {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(TERMS, &[CONTENT, PRICING, REDUNDANCY, SHAPE, WINDOWS])
            .structure(&self.shape)
            .structure(&self.redundancy)
            .structure(&self.windows)
            .structure(&self.pricing)
            .structure(&self.content)
            .addresses(&self.gateways)
            .finish()
    }
}

/// The guard that terms fail, by the name that the contract's `TermsInvalid` gives (PROTOCOL.md section 5).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum TermsRefusal {
    /// G-1.
    #[error("shape: units, slices, groups and slots must be above zero, and at most 10,000 groups")]
    Shape,
    /// G-2.
    #[error("policy: only Quorum can be opened")]
    Policy,
    /// G-3.
    #[error("quorum: 1 <= quorum <= picked <= maxSeats <= 8, and twice the quorum must exceed picked")]
    Quorum,
    /// G-4.
    #[error("rounds: drawn <= maxSeats, maxRounds >= 1, audit floor <= 1,000,000, collusion < 10,000")]
    Rounds,
    /// G-5.
    #[error("openUntil: must be in the future, and at most 68 years ahead")]
    OpenUntil,
    /// G-6.
    #[error("windows: the reveal window must be above zero, and no window longer than 68 years")]
    Windows,
    /// G-7.
    #[error("cancelGrace: must cover the run time of a group")]
    CancelGrace,
    /// G-8.
    #[error("bond: the no-show burn must be at most the bond and at most the pay")]
    Bond,
    /// G-9.
    #[error("fee: must be the market's fee")]
    Fee,
    /// G-10.
    #[error("shares: inconclusive <= 10,000, and 5,000 <= unresolved burn <= 10,000")]
    Shares,
    /// G-11.
    #[error("gateways: 1 to 4, none zero, none twice")]
    Gateways,
    /// G-12.
    #[error("comparator: needs a verifier exactly where it is not byte equality, and policy Attested")]
    Comparator,
    /// G-12a.
    #[error("class: byte equality needs all seats to be of one class")]
    Class,
    /// G-13, as far as it can be seen from here.
    #[error("token: must not be zero")]
    Token,
    /// G-14, and price caps that do not fit the contract's words.
    #[error("reserve: a price cap is too large")]
    Reserve,
}

impl Terms {
    /// Whether the contract would open a job on these terms at `now`, and if not, the first guard that fails.
    pub fn validate(&self, market_fee: Bps, now: UnixSeconds) -> Result<(), TermsRefusal> {
        let guards: [(bool, TermsRefusal); 15] = [
            (self.shape_holds(), TermsRefusal::Shape),
            (self.redundancy.policy == Policy::Quorum, TermsRefusal::Policy),
            (self.redundancy.quorum_holds(), TermsRefusal::Quorum),
            (self.redundancy.rounds_hold(), TermsRefusal::Rounds),
            (self.open_until_holds(now), TermsRefusal::OpenUntil),
            (self.windows.hold(), TermsRefusal::Windows),
            (
                self.shape
                    .run_time()
                    .is_some_and(|run| self.windows.cancel_grace >= run),
                TermsRefusal::CancelGrace,
            ),
            (self.pricing.bond_holds(), TermsRefusal::Bond),
            (self.pricing.fee_bps == market_fee, TermsRefusal::Fee),
            (self.pricing.shares_hold(), TermsRefusal::Shares),
            (self.gateways_hold(), TermsRefusal::Gateways),
            (self.comparator_holds(), TermsRefusal::Comparator),
            (
                !self.shape.class_id.is_zero() || !self.content.comparator.is_zero(),
                TermsRefusal::Class,
            ),
            (!self.pricing.token.is_zero(), TermsRefusal::Token),
            (self.amounts_hold(), TermsRefusal::Reserve),
        ];
        guards
            .into_iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, refusal)| Err(refusal))
    }

    fn shape_holds(&self) -> bool {
        let shape = &self.shape;
        shape.units.get() > 0
            && shape.units_per_slice.get() > 0
            && shape.slices_per_group > 0
            && shape.slots_per_seat.get() > 0
            && u16::try_from(shape.slots_per_seat.get()).is_ok()
            && shape.slots_per_seat.get() <= shape.slices_per_group
            && shape.seconds_per_unit.get() > 0
            && u32::try_from(shape.seconds_per_unit.get()).is_ok()
            && shape.groups().is_some_and(|groups| groups <= MAX_GROUPS)
            && shape.run_time().is_some_and(|run| run.get() <= MAX_DURATION)
    }

    fn open_until_holds(&self, now: UnixSeconds) -> bool {
        self.windows
            .open_until
            .checked_since(now)
            .is_some_and(|ahead| ahead.get() <= MAX_DURATION)
    }

    fn gateways_hold(&self) -> bool {
        let distinct: std::collections::BTreeSet<_> = self.gateways.iter().collect();
        (1..=MAX_JOB_GATEWAYS).contains(&self.gateways.len())
            && distinct.len() == self.gateways.len()
            && !self.gateways.iter().any(Address::is_zero)
    }

    fn comparator_holds(&self) -> bool {
        let exact = self.content.comparator.is_zero();
        exact == self.content.verifier.is_zero() && (exact || self.redundancy.policy == Policy::Attested)
    }

    fn amounts_hold(&self) -> bool {
        self.pricing.picked_cap.base_units() <= MAX_AMOUNT_96
            && self.pricing.drawn_cap.base_units() <= MAX_AMOUNT_96
            && self
                .reserve_per_unit()
                .is_some_and(|reserve| reserve.base_units() <= MAX_RESERVE_88)
    }
}

impl Redundancy {
    fn quorum_holds(&self) -> bool {
        1 <= self.quorum
            && self.quorum <= self.picked
            && self.picked <= self.max_seats
            && self.max_seats <= MAX_SEATS
            && self.quorum.saturating_mul(2) > self.picked
    }

    fn rounds_hold(&self) -> bool {
        self.drawn <= self.max_seats
            && self.max_rounds >= 1
            && self.audit_floor_ppm <= 1_000_000
            && self.collusion_bps.get() < BPS_ONE
    }
}

impl Windows {
    fn hold(&self) -> bool {
        let durations = [
            self.commit_grace,
            self.reveal_window,
            self.appeal_window,
            self.availability_window,
            self.cancel_grace,
            self.retention,
        ];
        self.reveal_window.get() > 0 && durations.iter().all(|duration| duration.get() <= MAX_DURATION)
    }
}

impl Pricing {
    fn bond_holds(&self) -> bool {
        self.no_show_bps <= self.bond_bps && self.no_show_bps <= Bps::ONE && self.bond_bps.get() < 1 << 24
    }

    fn shares_hold(&self) -> bool {
        self.inconclusive_bps <= Bps::ONE && (Bps::new(5_000)..=Bps::ONE).contains(&self.unresolved_burn_bps)
    }
}
