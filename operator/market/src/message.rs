//! Signed messages of rounds (PROTOCOL.md T-3 to T-6), and the reasons to abstain.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::eip712::{Encoder, StructHash};
use crate::ids::{Address, Hash32, JobId, RoundId};
use crate::quantity::{GroupIndex, SeatIndex, UnixSeconds};

const COMMIT_ENTRY: &str = "CommitEntry(uint32 group,uint8 round,uint8 seat,bytes32 commitment)";
const COMMIT: &str = "Commit(address provider,bytes32 jobId,uint64 deadline,CommitEntry[] entries)";
const ABSTAIN_ENTRY: &str = "AbstainEntry(uint32 group,uint8 round,uint8 seat,uint8 reason)";
const ABSTAIN: &str = "Abstain(address provider,bytes32 jobId,uint64 deadline,AbstainEntry[] entries)";
const REVEAL_ENTRY: &str = "RevealEntry(uint32 group,uint8 round,uint8 seat,bytes32 rootA,bytes32 saltA,\
    bytes32 hashB,address gateway,bytes32 storedRoot,uint64 size,uint64 until,bytes receipt)";
const REVEAL: &str = "Reveal(address provider,bytes32 jobId,uint64 deadline,RevealEntry[] entries)";
const RECEIPT: &str = "Receipt(address gateway,bytes32 roundId,address provider,bytes32 storedRoot,\
    uint64 size,uint64 until)";

/// Why a seat abstains: unpaid, unslashed, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AbstainReason {
    /// Inputs could not be had, or were not those that were promised.
    Inputs,
    /// The image could not be had.
    Image,
    /// The job key could not be had.
    Key,
    /// The template is not the one on chain.
    TemplateMismatch,
    /// A unit met its time limit.
    TimeLimit,
    /// A unit met its memory limit.
    OutOfMemory,
    /// A unit wrote more than it may.
    OutputLimit,
    /// The node or its devices failed.
    Hardware,
    /// The capacity was taken away.
    Preempted,
    /// No gateway took the result.
    Storage,
    /// Another reason, or a number that this version does not list.
    Other(u8),
}

impl AbstainReason {
    /// Its number on chain.
    pub const fn number(self) -> u8 {
        match self {
            Self::Inputs => 1,
            Self::Image => 2,
            Self::Key => 3,
            Self::TemplateMismatch => 4,
            Self::TimeLimit => 5,
            Self::OutOfMemory => 6,
            Self::OutputLimit => 7,
            Self::Hardware => 8,
            Self::Preempted => 9,
            Self::Storage => 10,
            Self::Other(number) => number,
        }
    }

    /// The reason of a number on chain; zero is none.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => None,
            1 => Some(Self::Inputs),
            2 => Some(Self::Image),
            3 => Some(Self::Key),
            4 => Some(Self::TemplateMismatch),
            5 => Some(Self::TimeLimit),
            6 => Some(Self::OutOfMemory),
            7 => Some(Self::OutputLimit),
            8 => Some(Self::Hardware),
            9 => Some(Self::Preempted),
            10 => Some(Self::Storage),
            other => Some(Self::Other(other)),
        }
    }

    /// Whether the job's own program is the reason: it would be the same on any machine.
    pub const fn is_of_the_program(self) -> bool {
        match self {
            Self::TimeLimit | Self::OutOfMemory | Self::OutputLimit => true,
            Self::Inputs
            | Self::Image
            | Self::Key
            | Self::TemplateMismatch
            | Self::Hardware
            | Self::Preempted
            | Self::Storage
            | Self::Other(_) => false,
        }
    }

    /// A word for conditions and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Inputs => "Inputs",
            Self::Image => "Image",
            Self::Key => "Key",
            Self::TemplateMismatch => "TemplateMismatch",
            Self::TimeLimit => "TimeLimit",
            Self::OutOfMemory => "OutOfMemory",
            Self::OutputLimit => "OutputLimit",
            Self::Hardware => "Hardware",
            Self::Preempted => "Preempted",
            Self::Storage => "Storage",
            Self::Other(_) => "Other",
        }
    }
}

/// Bytes of any length: `0x` and hex as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HexBytes(pub Vec<u8>);

impl fmt::Display for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(&self.0))
    }
}

impl fmt::Debug for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HexBytes({self})")
    }
}

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let digits = text
            .strip_prefix("0x")
            .ok_or_else(|| de::Error::custom("expected 0x and hex digits"))?;
        hex::decode(digits).map(Self).map_err(de::Error::custom)
    }
}

/// A provider's message about groups of one job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoundMessage<E> {
    /// Whose seats.
    pub provider: Address,
    /// The job.
    pub job_id: JobId,
    /// The message is void after this.
    pub deadline: UnixSeconds,
    /// One entry a seat.
    pub entries: Vec<E>,
}

/// T-3: commitments.
pub type Commit = RoundMessage<CommitEntry>;
/// T-4: abstentions.
pub type Abstain = RoundMessage<AbstainEntry>;
/// T-5: openings.
pub type Reveal = RoundMessage<RevealEntry>;

/// The seat that an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeatRef {
    /// The group.
    pub group: GroupIndex,
    /// The round that the seat belongs to.
    pub round: u8,
    /// The seat's number within its group.
    pub seat: SeatIndex,
}

/// One seat's commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitEntry {
    /// Which seat.
    #[serde(flatten)]
    pub seat: SeatRef,
    /// I-8.
    pub commitment: Hash32,
}

/// One seat's abstention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AbstainEntry {
    /// Which seat.
    #[serde(flatten)]
    pub seat: SeatRef,
    /// Why.
    pub reason: AbstainReason,
}

/// One seat's opening of its commitment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevealEntry {
    /// Which seat.
    #[serde(flatten)]
    pub seat: SeatRef,
    /// The result root.
    pub root_a: Hash32,
    /// The salt of the commitment.
    pub salt_a: Hash32,
    /// I-7.
    pub hash_b: Hash32,
    /// The gateway of the receipt; zero where there is none.
    pub gateway: Address,
    /// I-19.
    pub stored_root: Hash32,
    /// Bytes stored.
    pub size: u64,
    /// Stored until then.
    pub until: UnixSeconds,
    /// The gateway's signature over T-6; empty where there is none.
    pub receipt: HexBytes,
}

/// T-6: a gateway's promise to store named bytes until a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receipt {
    /// Who promises, and signs.
    pub gateway: Address,
    /// For which round.
    pub round_id: RoundId,
    /// For whose seat.
    pub provider: Address,
    /// I-19.
    pub stored_root: Hash32,
    /// Bytes stored.
    pub size: u64,
    /// Stored until then.
    pub until: UnixSeconds,
}

/// An entry that knows the type of the message it stands in.
trait Entry: StructHash + Sized {
    const MESSAGE: &'static str;
    const ENTRY: &'static str;
}

impl Entry for CommitEntry {
    const MESSAGE: &'static str = COMMIT;
    const ENTRY: &'static str = COMMIT_ENTRY;
}

impl Entry for AbstainEntry {
    const MESSAGE: &'static str = ABSTAIN;
    const ENTRY: &'static str = ABSTAIN_ENTRY;
}

impl Entry for RevealEntry {
    const MESSAGE: &'static str = REVEAL;
    const ENTRY: &'static str = REVEAL_ENTRY;
}

impl Encoder {
    fn seat(self, seat: SeatRef) -> Self {
        self.uint(seat.group.get()).uint(seat.round).uint(seat.seat.get())
    }
}

impl StructHash for CommitEntry {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(COMMIT_ENTRY, &[])
            .seat(self.seat)
            .hash(self.commitment)
            .finish()
    }
}

impl StructHash for AbstainEntry {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(ABSTAIN_ENTRY, &[])
            .seat(self.seat)
            .uint(self.reason.number())
            .finish()
    }
}

impl StructHash for RevealEntry {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(REVEAL_ENTRY, &[])
            .seat(self.seat)
            .hash(self.root_a)
            .hash(self.salt_a)
            .hash(self.hash_b)
            .address(self.gateway)
            .hash(self.stored_root)
            .uint(self.size)
            .uint(self.until.get())
            .bytes(&self.receipt.0)
            .finish()
    }
}

impl<E: Entry> StructHash for RoundMessage<E> {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(E::MESSAGE, &[E::ENTRY])
            .address(self.provider)
            .hash(self.job_id)
            .uint(self.deadline.get())
            .structures(&self.entries)
            .finish()
    }
}

impl StructHash for Receipt {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(RECEIPT, &[])
            .address(self.gateway)
            .hash(self.round_id)
            .address(self.provider)
            .hash(self.stored_root)
            .uint(self.size)
            .uint(self.until.get())
            .finish()
    }
}
