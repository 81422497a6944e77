//! A party without an operator: somebody with a key, who calls the market and writes to the gateway by hand.
//!
//! Test equipment: it keeps the protocol's rules or breaks them, as a scenario asks.

use tokio::sync::Mutex;
use tradewind_chain::calls::{self, Fill, Voucher};
use tradewind_chain::contracts;
use tradewind_chain::read::Reader;
use tradewind_chain::{BlockTag, Call, LocalSigner, Node, Preimage, Signer as _};
use tradewind_gateway_api::client::{ClientConfig, GatewayClient};
use tradewind_gateway_api::exact::Exact;
use tradewind_gateway_api::offer::SignedOffer;
use tradewind_gateway_api::wire::OfferFilter;
use tradewind_market::derivation::{self, CommitmentContext};
use tradewind_market::eip712::{Domain, StructHash};
use tradewind_market::message::{
    Abstain, AbstainEntry, AbstainReason, Commit, CommitEntry, HexBytes, Receipt, Reveal, RevealEntry,
    SeatRef,
};
use tradewind_market::terms::{Content, Policy, Pricing, Redundancy, Shape, Terms, Windows};
use tradewind_market::{
    Address, Bps, GroupIndex, Hash32, JobId, JobNonce, Nonce, PricePerSlotSecond, RoundId, SeatIndex,
    Seconds, Slots, TokenAmount, Units, UnixSeconds, keccak256,
};

use super::account::Role;
use super::error::MarketError;
use super::{Market, chain};
use crate::lab::DEV_ACCOUNTS;

/// More than any call takes that concerns a few seats.
const GAS_AHEAD: u64 = 3_000_000;
/// Messages are good for ever: what a scenario lets run out is the protocol's time.
const NO_DEADLINE: UnixSeconds = UnixSeconds::new(1 << 40);
/// Results are promised to be kept for longer than any lab's jobs ask.
const KEPT: u64 = 30 * 86_400;
/// A lab's offers are renewed after an hour; these are not renewed.
const OFFERED_FOR: u64 = 6 * 3_600;
const SECONDS_PER_UNIT: u64 = 20;
const MAX_SEATS: u8 = 8;

/// Somebody with a key and a way to the chain and to the gateway.
#[derive(Debug)]
pub struct Party {
    signer: LocalSigner,
    receipts: LocalSigner,
    /// One transaction of an account at a time: the node counts only those that it has.
    turn: &'static Mutex<()>,
    node: Node,
    reader: Reader,
    domain: Domain,
    token: Address,
    gateway: GatewayClient,
    windows: super::Windows,
}

/// What a party sells: as the first data center does, but for this.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// Offers of one series share their slots.
    pub series: u32,
    /// How many slots.
    pub slots: u32,
    /// Bytes of disk of a slot; the data center's where `None`. With less than others have, jobs that do not mean
    /// this offer pass it by.
    pub disk_bytes: Option<u64>,
    /// What a slot costs for a second, in base units.
    pub price: u128,
    /// What is kept of the pay where the buyer leaves the seat hanging.
    pub charge: Bps,
    /// How long it stands, in seconds.
    pub stands_for: u64,
}

impl Default for Stall {
    fn default() -> Self {
        Self {
            series: 1,
            slots: 64,
            disk_bytes: None,
            price: 100_000_000_000_000,
            charge: Bps::new(500),
            stands_for: OFFERED_FOR,
        }
    }
}

/// A job that a party opens by hand, of one group and one unit.
#[derive(Debug)]
pub struct Purchase<'a> {
    /// Tells the buyer's jobs apart.
    pub name: &'a str,
    /// Whose seats are taken.
    pub offers: &'a [SignedOffer],
    /// Whether the group is sealed.
    pub sealed: bool,
    /// How long the job takes fills and seals, in seconds.
    pub open_for: u64,
}

impl Purchase<'_> {
    fn nonce(&self) -> JobNonce {
        keccak256(&[self.name.as_bytes()]).into()
    }
}

/// A seat that a party holds in a sealed group.
#[derive(Clone, Copy, Debug)]
pub struct HeldSeat {
    job: JobId,
    terms_hash: Hash32,
    round: RoundId,
    place: SeatRef,
}

impl Party {
    /// The party with that role's account.
    pub async fn new(market: &Market<'_>, role: Role) -> Result<Self, MarketError> {
        static TURNS: [Mutex<()>; DEV_ACCOUNTS.len()] = [const { Mutex::const_new(()) }; DEV_ACCOUNTS.len()];
        let node = chain::connect(market.lab()).await?;
        let address: Address = chain::parse(&market.chain.market)?;
        let key = |role: Role| LocalSigner::from_hex(role.account().key).map_err(chain::unusable);
        let gateway = GatewayClient::new(ClientConfig::new([market.gateway()?]));
        Ok(Self {
            signer: key(role)?,
            receipts: key(Role::Gateway)?,
            turn: &TURNS[role.index()],
            reader: Reader::new(node.clone(), address),
            domain: Domain {
                chain_id: node.chain_id(),
                market: address,
            },
            node,
            token: chain::parse(&market.chain.token)?,
            gateway: gateway.map_err(chain::unusable)?,
            windows: market.windows,
        })
    }

    /// Its account.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// What the market says.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The market.
    pub fn market(&self) -> Address {
        self.domain.market
    }

    /// Makes the call, and waits until it is in a block.
    pub async fn send(&self, call: &Call) -> Result<(), MarketError> {
        let _turn = self.turn.lock().await;
        contracts::send(&self.node, &self.signer, call).await?;
        Ok(())
    }

    /// The same, for a block of a later time than the newest one's, in which the call may do more than now.
    pub async fn send_ahead(&self, call: &Call) -> Result<(), MarketError> {
        let _turn = self.turn.lock().await;
        contracts::send_with_gas(&self.node, &self.signer, call, GAS_AHEAD).await?;
        Ok(())
    }

    /// The newest block's time.
    pub async fn now(&self) -> Result<UnixSeconds, MarketError> {
        let header = self
            .node
            .header(BlockTag::Latest)
            .await
            .map_err(chain::unusable)?;
        header
            .map(|header| header.timestamp)
            .ok_or_else(|| MarketError::Chain("there is no block".to_owned()))
    }

    /// Gives the party tokens, and puts them into its balance.
    pub async fn supply(&self, whole: &str) -> Result<(), MarketError> {
        let (amount, market) = (chain::amount(whole)?, self.market());
        let calls = [
            calls::mint(self.token, self.address(), amount),
            calls::approve(self.token, market, amount),
            calls::deposit(market, self.token, amount, Hash32::ZERO),
        ];
        for call in &calls {
            self.send(call).await?;
        }
        Ok(())
    }

    /// Turns part of its balance into its bond.
    pub async fn post_bond(&self, whole: &str) -> Result<(), MarketError> {
        let bond = calls::post_bond(self.market(), self.token, chain::amount(whole)?, Hash32::ZERO);
        self.send(&bond).await
    }

    /// The offers that are published.
    pub async fn offers(&self) -> Result<Vec<SignedOffer>, MarketError> {
        self.gateway
            .offers(&OfferFilter::default())
            .await
            .map_err(chain::unusable)
    }

    /// Publishes an offer.
    pub async fn sell(&self, stall: Stall) -> Result<SignedOffer, MarketError> {
        let model: Address = chain::parse(Role::Provider(0).account().address)?;
        let published = self.offers().await?;
        let model = published
            .into_iter()
            .find(|signed| signed.offer.provider == model)
            .ok_or_else(|| MarketError::Chain("no offer is published that could be a model".to_owned()))?;
        let mut details = model.details.into_value();
        if let Some(bytes) = stall.disk_bytes {
            details.slot.disk_bytes = bytes;
        }
        let details = Exact::new(details).map_err(chain::unusable)?;
        let now = self.now().await?;
        let mut offer = model.offer;
        offer.provider = self.address();
        offer.details = details.digest();
        offer.sale.series = stall.series;
        offer.sale.nonce = Nonce::new(now.get());
        offer.sale.valid_from = UnixSeconds::ZERO;
        offer.sale.valid_until = now.saturating_add(Seconds::new(stall.stands_for));
        offer.sale.price_per_slot_second = PricePerSlotSecond::from_base_units(stall.price);
        offer.sale.slots = Slots::new(stall.slots);
        offer.sale.min_charge_bps = stall.charge;
        let signature = self.sign(&self.signer, &offer).await?;
        let signed = SignedOffer {
            offer,
            signature,
            details,
        };
        let written = self.gateway.put_offer(&signed).await;
        written.map_err(chain::unusable)?;
        Ok(signed)
    }

    /// Voids its offers of a series.
    pub fn withdraw(&self, offer: &SignedOffer) -> Call {
        let sale = &offer.offer.sale;
        calls::cancel_offers(self.market(), sale.series, Nonce::new(sale.nonce.get() + 1))
    }

    /// Its seat in a group that is sealed.
    pub async fn seat(&self, job: JobId, group: GroupIndex) -> Result<HeldSeat, MarketError> {
        let missing = |what: &str| MarketError::Chain(format!("{what} of job {job}, group {group}"));
        let latest = BlockTag::Latest;
        let facts = self.reader.job_of(job, latest).await.map_err(chain::unusable)?;
        let terms_hash = facts
            .ok_or_else(|| missing("the chain knows nothing"))?
            .terms_hash;
        let round = self.reader.round_id_of(job, group, 0, latest).await;
        for seat in (0..MAX_SEATS).map(SeatIndex::new) {
            let held = self.reader.seat_of(job, group, seat, latest).await;
            match held.map_err(chain::unusable)? {
                Some(held) if held.provider == self.address() => {
                    return Ok(HeldSeat {
                        job,
                        terms_hash,
                        round: round.map_err(chain::unusable)?,
                        place: SeatRef {
                            group,
                            round: 0,
                            seat,
                        },
                    });
                }
                Some(_) => {}
                None => break,
            }
        }
        Err(missing("the party has no seat"))
    }

    /// Commits to a root.
    pub fn commit(&self, seat: &HeldSeat, root: Hash32) -> Call {
        let context = CommitmentContext {
            domain_separator: self.domain.separator(),
            job: seat.job,
            terms_hash: seat.terms_hash,
            round: seat.round,
            provider: self.address(),
        };
        let (salt, hash_b) = self.secrets(seat, root);
        let entry = CommitEntry {
            seat: seat.place,
            commitment: derivation::commitment(&context, root, salt, hash_b),
        };
        let message = Commit {
            provider: self.address(),
            job_id: seat.job,
            deadline: NO_DEADLINE,
            entries: vec![entry],
        };
        calls::commit(self.market(), &message, &Voucher::Caller)
    }

    /// Gives the seat back.
    pub fn abstain(&self, seat: &HeldSeat, reason: AbstainReason) -> Call {
        let message = Abstain {
            provider: self.address(),
            job_id: seat.job,
            deadline: NO_DEADLINE,
            entries: vec![AbstainEntry {
                seat: seat.place,
                reason,
            }],
        };
        calls::abstain(self.market(), &message, &Voucher::Caller)
    }

    /// Shows the root that it committed to, with a receipt that the gateway's key signed, or without one.
    pub async fn reveal(
        &self,
        seat: &HeldSeat,
        root: Hash32,
        with_receipt: bool,
    ) -> Result<Call, MarketError> {
        let (salt_a, hash_b) = self.secrets(seat, root);
        let until = self.now().await?.saturating_add(Seconds::new(KEPT));
        let receipt = Receipt {
            gateway: self.receipts.address(),
            round_id: seat.round,
            provider: self.address(),
            stored_root: keccak256(&[b"stored"]),
            size: 1,
            until,
        };
        let (gateway, signature) = if with_receipt {
            (receipt.gateway, self.sign(&self.receipts, &receipt).await?)
        } else {
            (Address::ZERO, HexBytes::default())
        };
        let entry = RevealEntry {
            seat: seat.place,
            root_a: root,
            salt_a,
            hash_b,
            gateway,
            stored_root: receipt.stored_root,
            size: receipt.size,
            until,
            receipt: signature,
        };
        let message = Reveal {
            provider: self.address(),
            job_id: seat.job,
            deadline: NO_DEADLINE,
            entries: vec![entry],
        };
        Ok(calls::reveal(self.market(), &message, &Voucher::Caller))
    }

    /// The id of a job that it opens by hand.
    pub fn job(&self, purchase: &Purchase<'_>) -> JobId {
        derivation::job_id(&self.domain, self.address(), purchase.nonce())
    }

    /// Opens a job by hand, paid for from the balance.
    pub async fn buy(&self, purchase: &Purchase<'_>) -> Result<Call, MarketError> {
        let terms = self.terms(purchase).await?;
        let fills = purchase.offers.iter().map(|signed| Fill {
            offer: signed.offer.clone(),
            signature: signed.signature.clone(),
            first_group: GroupIndex::ZERO,
            groups: 1,
        });
        let fills: Vec<_> = fills.collect();
        let (market, escrow) = (self.market(), chain::amount("1")?);
        let open = calls::open_job(market, purchase.nonce(), &terms, escrow, &fills);
        let mut calls = vec![open.map_err(chain::unusable)?];
        if purchase.sealed {
            calls.push(calls::seal(market, self.job(purchase), GroupIndex::ZERO, 1));
        }
        Ok(calls::multicall(market, &calls))
    }

    async fn terms(&self, purchase: &Purchase<'_>) -> Result<Terms, MarketError> {
        let seats = u8::try_from(purchase.offers.len()).map_err(chain::unusable)?;
        let class_id = purchase.offers.first().map(|signed| signed.offer.class_id);
        let seconds = |number: u32| Seconds::new(number.into());
        let word = |name: &str| keccak256(&[name.as_bytes()]);
        Ok(Terms {
            shape: Shape {
                units: Units::new(1),
                units_per_slice: Units::new(1),
                slices_per_group: 1,
                slots_per_seat: Slots::new(1),
                seconds_per_unit: Seconds::new(SECONDS_PER_UNIT),
                class_id: class_id.unwrap_or_default(),
            },
            redundancy: Redundancy {
                policy: Policy::Quorum,
                quorum: seats / 2 + 1,
                picked: seats,
                max_seats: seats,
                drawn: 0,
                max_rounds: 1,
                canary: false,
                entropy: 0,
                audit_floor_ppm: 0,
                collusion_bps: Bps::ZERO,
            },
            windows: Windows {
                open_until: self.now().await?.saturating_add(Seconds::new(purchase.open_for)),
                commit_grace: seconds(self.windows.commit_grace),
                reveal_window: seconds(self.windows.reveal),
                appeal_window: seconds(self.windows.appeal),
                availability_window: seconds(self.windows.availability),
                cancel_grace: Seconds::new(SECONDS_PER_UNIT),
                retention: Seconds::new(86_400),
            },
            pricing: Pricing {
                token: self.token,
                picked_cap: chain::amount("1")?,
                drawn_cap: TokenAmount::ZERO,
                bond_bps: Bps::new(10_000),
                no_show_bps: Bps::new(1_000),
                fee_bps: chain::FEE,
                inconclusive_bps: Bps::new(5_000),
                unresolved_burn_bps: Bps::new(5_000),
            },
            content: Content {
                template_digest: word("a template that nobody gets"),
                template_address: word("where it would be"),
                key_commitment: word("a key that nobody gets"),
                secrets_root: Hash32::ZERO,
                spot_checks_root: Hash32::ZERO,
                comparator: Hash32::ZERO,
                verifier: Address::ZERO,
            },
            gateways: vec![self.receipts.address()],
        })
    }

    fn secrets(&self, seat: &HeldSeat, root: Hash32) -> (Hash32, Hash32) {
        let provider = self.address();
        let salt = keccak256(&[b"salt", seat.round.as_bytes(), provider.as_bytes()]);
        (salt, derivation::hash_b(seat.round, provider, root, salt))
    }

    async fn sign(&self, signer: &LocalSigner, message: &impl StructHash) -> Result<HexBytes, MarketError> {
        let signature = signer.sign(&Preimage::message(&self.domain, message)).await;
        Ok(HexBytes(signature.map_err(chain::unusable)?.as_bytes().to_vec()))
    }
}
