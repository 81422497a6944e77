//! Ids and typed data against the vectors that the contracts' tests use too.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lint's exception covers test functions, not what they call"
)]

use serde_json::Value;
use tradewind_market::derivation::{self, CommitmentContext};
use tradewind_market::eip712::{Domain, StructHash};
use tradewind_market::geometry::UnitRange;
use tradewind_market::message::{
    Abstain, AbstainEntry, AbstainReason, Commit, CommitEntry, HexBytes, Receipt, Reveal, RevealEntry,
    SeatRef,
};
use tradewind_market::offer::{Bounds, Sale};
use tradewind_market::terms::{Content, Policy, Pricing, Redundancy, Shape, Windows};
use tradewind_market::{
    Address, Bps, GroupIndex, Hash32, Nonce, Offer, PricePerSlotSecond, RoundId, SeatIndex, Seconds, Slots,
    Terms, TokenAmount, UnitIndex, Units, UnixSeconds,
};

struct Vectors(Value);

impl Vectors {
    fn read(name: &str) -> Self {
        let path = format!(
            "{}/../../deploy/contracts/vectors/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        Self(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn get<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_value(self.0[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn domain(&self) -> Domain {
        Domain {
            chain_id: self.get("chainId"),
            market: self.get("market"),
        }
    }

    /// The words of an ABI encoding, read one after another.
    fn words(&self, name: &str) -> Words {
        let HexBytes(bytes) = self.get(name);
        Words(
            bytes
                .chunks_exact(32)
                .map(|word| word.try_into().unwrap())
                .collect::<Vec<_>>()
                .into_iter(),
        )
    }
}

struct Words(std::vec::IntoIter<[u8; 32]>);

impl Words {
    fn word(&mut self) -> [u8; 32] {
        self.0.next().unwrap()
    }

    fn skip(&mut self, words: usize) -> &mut Self {
        for _ in 0..words {
            self.word();
        }
        self
    }

    fn uint<T: TryFrom<u128>>(&mut self) -> T {
        let word = self.word();
        assert_eq!(word[..16], [0; 16]);
        let number = u128::from_be_bytes(word[16..].try_into().unwrap());
        T::try_from(number).ok().unwrap()
    }

    fn hash(&mut self) -> Hash32 {
        Hash32::from_bytes(self.word())
    }

    fn address(&mut self) -> Address {
        Address::from_bytes(self.word()[12..].try_into().unwrap())
    }

    fn addresses(&mut self) -> Vec<Address> {
        (0..self.uint()).map(|_: u32| self.address()).collect()
    }

    fn amount(&mut self) -> TokenAmount {
        TokenAmount::from_base_units(self.uint())
    }

    fn seconds(&mut self) -> Seconds {
        Seconds::new(self.uint())
    }

    fn time(&mut self) -> UnixSeconds {
        UnixSeconds::new(self.uint())
    }

    fn bps(&mut self) -> Bps {
        Bps::new(self.uint())
    }

    fn seat(&mut self) -> SeatRef {
        SeatRef {
            group: GroupIndex::new(self.uint()),
            round: self.uint(),
            seat: SeatIndex::new(self.uint()),
        }
    }
}

fn terms(words: &mut Words) -> Terms {
    let mut terms = Terms {
        shape: Shape {
            units: Units::new(words.skip(1).uint()),
            units_per_slice: Units::new(words.uint()),
            slices_per_group: words.uint(),
            slots_per_seat: Slots::new(words.uint()),
            seconds_per_unit: words.seconds(),
            class_id: words.hash().into(),
        },
        redundancy: Redundancy {
            policy: Policy::from_number(words.uint()).unwrap(),
            quorum: words.uint(),
            picked: words.uint(),
            max_seats: words.uint(),
            drawn: words.uint(),
            max_rounds: words.uint(),
            canary: words.uint::<u8>() == 1,
            entropy: words.uint(),
            audit_floor_ppm: words.uint(),
            collusion_bps: words.bps(),
        },
        windows: Windows {
            open_until: words.time(),
            commit_grace: words.seconds(),
            reveal_window: words.seconds(),
            appeal_window: words.seconds(),
            availability_window: words.seconds(),
            cancel_grace: words.seconds(),
            retention: words.seconds(),
        },
        pricing: Pricing {
            token: words.address(),
            picked_cap: words.amount(),
            drawn_cap: words.amount(),
            bond_bps: words.bps(),
            no_show_bps: words.bps(),
            fee_bps: words.bps(),
            inconclusive_bps: words.bps(),
            unresolved_burn_bps: words.bps(),
        },
        content: Content {
            template_digest: words.hash(),
            template_address: words.hash(),
            key_commitment: words.hash(),
            secrets_root: words.hash(),
            spot_checks_root: words.hash(),
            comparator: words.hash(),
            verifier: words.address(),
        },
        gateways: Vec::new(),
    };
    terms.gateways = words.skip(1).addresses();
    terms
}

fn offer(words: &mut Words) -> Offer {
    let mut offer = Offer {
        provider: words.skip(1).address(),
        allowed_buyer: words.address(),
        token: words.address(),
        class_id: words.hash().into(),
        region: words.hash().into(),
        details: words.hash(),
        recipient: words.hash(),
        sale: Sale {
            series: words.uint(),
            nonce: Nonce::new(words.uint()),
            valid_from: words.time(),
            valid_until: words.time(),
            price_per_slot_second: PricePerSlotSecond::from_base_units(words.uint()),
            slots: Slots::new(words.uint()),
            min_charge_bps: words.bps(),
        },
        bounds: Bounds {
            max_seconds_per_unit: words.seconds(),
            max_lock_seconds: words.seconds(),
            min_commit_grace: words.seconds(),
            min_reveal_window: words.seconds(),
            max_retention: words.seconds(),
            max_bond_bps: words.bps(),
            max_no_show_bps: words.bps(),
            min_inconclusive_bps: words.bps(),
            policies: words.uint(),
        },
        gateways: Vec::new(),
        verifiers: Vec::new(),
    };
    offer.gateways = words.skip(2).addresses();
    offer.verifiers = words.addresses();
    offer
}

#[test]
fn ids_are_those_of_the_contract() {
    let vectors = Vectors::read("ids.json");
    let domain = vectors.domain();
    assert_eq!(domain.separator(), vectors.get("domainSeparator"));
    let job = derivation::job_id(&domain, vectors.get("buyer"), vectors.get("nonce"));
    assert_eq!(job, vectors.get("jobId"));
    let seats = derivation::seats_hash(vectors.get::<Vec<Address>>("seats"));
    assert_eq!(seats, vectors.get("seatsHash"));
    let first = UnitIndex::new(vectors.get("firstUnit"));
    let units = derivation::units_hash(UnitRange {
        first,
        count: Units::new(vectors.get("units")),
    });
    assert_eq!(units, vectors.get("unitRangeHash"));
    let group = GroupIndex::new(vectors.get("group"));
    let round: RoundId = derivation::round_id(job, group, vectors.get("round"), seats, units);
    assert_eq!(round, vectors.get("roundId"));
    let provider = vectors.get("provider");
    let hash_b = derivation::hash_b(round, provider, vectors.get("rootB"), vectors.get("saltB"));
    assert_eq!(hash_b, vectors.get("hashB"));
    let context = CommitmentContext {
        domain_separator: domain.separator(),
        job,
        terms_hash: vectors.get("termsHash"),
        round,
        provider,
    };
    let commitment = derivation::commitment(&context, vectors.get("rootA"), vectors.get("saltA"), hash_b);
    assert_eq!(commitment, vectors.get("commitment"));
}

#[test]
fn terms_and_offers_hash_as_in_the_contract() {
    let vectors = Vectors::read("typed-data.json");
    assert_eq!(
        terms(&mut vectors.words("termsAbi")).struct_hash(),
        vectors.get("termsHash")
    );
    let offer = offer(&mut vectors.words("offerAbi"));
    assert_eq!(offer.hash(), vectors.get("offerHash"));
    assert_eq!(
        vectors.domain().signing_digest(&offer),
        vectors.get("offerDigest")
    );
}

#[test]
fn messages_hash_as_in_the_contract() {
    let vectors = Vectors::read("typed-data.json");
    let domain = vectors.domain();

    let mut words = vectors.words("commitAbi");
    let commit = Commit {
        provider: words.skip(1).address(),
        job_id: words.hash().into(),
        deadline: words.time(),
        entries: (0..words.skip(1).uint())
            .map(|_: u32| CommitEntry {
                seat: words.seat(),
                commitment: words.hash(),
            })
            .collect(),
    };
    assert_eq!(commit.entries.len(), 2);
    assert_eq!(commit.struct_hash(), vectors.get("commitHash"));
    assert_eq!(domain.signing_digest(&commit), vectors.get("commitDigest"));

    let mut words = vectors.words("abstainAbi");
    let abstain = Abstain {
        provider: words.skip(1).address(),
        job_id: words.hash().into(),
        deadline: words.time(),
        entries: (0..words.skip(1).uint())
            .map(|_: u32| AbstainEntry {
                seat: words.seat(),
                reason: AbstainReason::from_number(words.uint()).unwrap(),
            })
            .collect(),
    };
    assert_eq!(abstain.struct_hash(), vectors.get("abstainHash"));

    let mut words = vectors.words("revealAbi");
    let reveal = Reveal {
        provider: words.skip(1).address(),
        job_id: words.hash().into(),
        deadline: words.time(),
        entries: vec![RevealEntry {
            seat: words.skip(3).seat(),
            root_a: words.hash(),
            salt_a: words.hash(),
            hash_b: words.hash(),
            gateway: words.address(),
            stored_root: words.hash(),
            size: words.uint(),
            until: words.time(),
            receipt: vectors.get("receiptSignature"),
        }],
    };
    assert_eq!(reveal.struct_hash(), vectors.get("revealHash"));

    let mut words = vectors.words("receiptAbi");
    let receipt = Receipt {
        gateway: words.address(),
        round_id: words.hash().into(),
        provider: words.address(),
        stored_root: words.hash(),
        size: words.uint(),
        until: words.time(),
    };
    assert_eq!(receipt.struct_hash(), vectors.get("receiptHash"));
    assert_eq!(domain.signing_digest(&receipt), vectors.get("receiptDigest"));
}
