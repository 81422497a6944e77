//! The real contracts on a real node, with everyone supplied: where the scenarios start.

use std::sync::Arc;
use std::time::Duration;

use tradewind_chain::calls;
use tradewind_chain::contracts::{self, Deployment};
use tradewind_chain::follower::{Follower, FollowerConfig, Logged, Update};
use tradewind_chain::read::{Parameters, Reader};
use tradewind_chain::sender::{
    Intent, IntentId, IntentState, MemoryJournal, Sender, SenderConfig, StepReport,
};
use tradewind_chain::{BlockTag, Call, Node, Preimage, Signer, UnixMillis};
use tradewind_market::eip712::{Domain, StructHash};
use tradewind_market::event::{JobEvent, MarketEvent};
use tradewind_market::offer::{Bounds, Offer, Sale};
use tradewind_market::terms::{Content, Policy, Pricing, Redundancy, Shape, Terms, Windows};
use tradewind_market::{
    Address, BlockNumber, Bps, ClassId, GroupIndex, Hash32, JobId, Nonce, PricePerSlotSecond, RegionId,
    Seconds, Slots, TokenAmount, Units, UnixSeconds, keccak256,
};

use super::anvil::{Anvil, CHAIN_ID, contracts, key};

pub(crate) const BUYER: usize = 1;
pub(crate) const PROVIDERS: [usize; 3] = [2, 3, 4];
pub(crate) const GATEWAY: usize = 5;
pub(crate) const CLASS: ClassId = ClassId::from_bytes([0xaa; 32]);
pub(crate) const GROUP: GroupIndex = GroupIndex::ZERO;

/// A market with a token on a fresh node, everyone supplied.
pub(crate) struct Scene {
    pub(crate) anvil: Anvil,
    pub(crate) node: Node,
    pub(crate) deployment: Deployment,
    pub(crate) token: Address,
    pub(crate) reader: Reader,
}

pub(crate) fn tokens(base_units: u128) -> TokenAmount {
    TokenAmount::from_base_units(base_units)
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let anvil = Anvil::start();
        let node = anvil.node().await;
        let deployer = key(0);
        let parameters = Parameters {
            fee_bps: Bps::new(150),
            unbond_delay: Seconds::new(60),
        };
        let deployment = contracts::deploy_market(&node, deployer.as_ref(), &contracts(), &parameters)
            .await
            .unwrap();
        let token = contracts::deploy_lab_token(&node, deployer.as_ref(), &contracts())
            .await
            .unwrap();
        let reader = Reader::new(node.clone(), deployment.market);
        let scene = Self {
            anvil,
            node,
            deployment,
            token,
            reader,
        };
        assert_eq!(scene.reader.parameters(BlockTag::Latest).await, Ok(parameters));
        assert_eq!(
            scene.reader.domain_separator(BlockTag::Latest).await,
            Ok(scene.domain().separator())
        );
        for account in [BUYER].into_iter().chain(PROVIDERS) {
            let signer = key(account);
            let (market, plenty) = (scene.deployment.market, tokens(1_000_000));
            for call in [
                calls::mint(token, signer.address(), plenty),
                calls::approve(token, market, plenty),
            ] {
                contracts::send(&scene.node, signer.as_ref(), &call)
                    .await
                    .unwrap();
            }
        }
        scene
    }

    pub(crate) fn domain(&self) -> Domain {
        Domain {
            chain_id: CHAIN_ID,
            market: self.deployment.market,
        }
    }

    pub(crate) fn follower(&self) -> Follower<MarketEvent> {
        let config = FollowerConfig::new(vec![self.deployment.market], self.deployment.start);
        Follower::new(self.node.clone(), config)
    }

    pub(crate) fn sender(&self, account: usize) -> Sender {
        let config = sender_config(self.deployment.market);
        Sender::new(
            self.node.clone(),
            key(account),
            Arc::new(MemoryJournal::new()),
            config,
        )
    }

    pub(crate) async fn sign(&self, account: usize, message: &impl StructHash) -> tradewind_chain::Signature {
        key(account)
            .sign(&Preimage::message(&self.domain(), message))
            .await
            .unwrap()
    }

    pub(crate) async fn now(&self) -> UnixSeconds {
        self.node
            .header(BlockTag::Latest)
            .await
            .unwrap()
            .unwrap()
            .timestamp
    }
}

pub(crate) fn sender_config(market: Address) -> SenderConfig {
    SenderConfig {
        rebroadcast_after: Duration::ZERO,
        ..SenderConfig::new(market)
    }
}

pub(crate) fn intent(label: &str, call: Call, shareable: bool) -> Intent {
    Intent {
        id: IntentId::of_call(&call),
        label: label.to_owned(),
        call,
        shareable,
        gas_max: None,
    }
}

pub(crate) fn terms(token: Address, now: UnixSeconds) -> Terms {
    Terms {
        shape: Shape {
            units: Units::new(8),
            units_per_slice: Units::new(4),
            slices_per_group: 2,
            slots_per_seat: Slots::new(1),
            seconds_per_unit: Seconds::new(2),
            class_id: CLASS,
        },
        redundancy: Redundancy {
            policy: Policy::Quorum,
            quorum: 2,
            picked: 3,
            max_seats: 3,
            drawn: 0,
            max_rounds: 1,
            canary: false,
            entropy: 0,
            audit_floor_ppm: 0,
            collusion_bps: Bps::ZERO,
        },
        windows: Windows {
            open_until: UnixSeconds::new(now.get() + 1_000),
            commit_grace: Seconds::new(600),
            reveal_window: Seconds::new(600),
            appeal_window: Seconds::new(20),
            availability_window: Seconds::new(10),
            cancel_grace: Seconds::new(60),
            retention: Seconds::new(3_600),
        },
        pricing: Pricing {
            token,
            picked_cap: tokens(1_000),
            drawn_cap: TokenAmount::ZERO,
            bond_bps: Bps::new(15_000),
            no_show_bps: Bps::new(2_000),
            fee_bps: Bps::new(150),
            inconclusive_bps: Bps::new(5_000),
            unresolved_burn_bps: Bps::new(5_000),
        },
        content: Content {
            template_digest: keccak256(&[b"template"]),
            template_address: keccak256(&[b"stored template"]),
            key_commitment: keccak256(&[b"key"]),
            secrets_root: Hash32::ZERO,
            spot_checks_root: Hash32::ZERO,
            comparator: Hash32::ZERO,
            verifier: Address::ZERO,
        },
        gateways: vec![key(GATEWAY).address()],
    }
}

pub(crate) fn offer(provider: Address, token: Address) -> Offer {
    Offer {
        provider,
        allowed_buyer: Address::ZERO,
        token,
        class_id: CLASS,
        region: RegionId::ZERO,
        details: Hash32::ZERO,
        recipient: Hash32::ZERO,
        sale: Sale {
            series: 1,
            nonce: Nonce::new(1),
            valid_from: UnixSeconds::ZERO,
            valid_until: UnixSeconds::new(u64::from(u32::MAX)),
            price_per_slot_second: PricePerSlotSecond::from_base_units(50),
            slots: Slots::new(4),
            min_charge_bps: Bps::new(100),
        },
        bounds: Bounds {
            max_seconds_per_unit: Seconds::new(3_600),
            max_lock_seconds: Seconds::new(100_000),
            min_commit_grace: Seconds::new(1),
            min_reveal_window: Seconds::new(1),
            max_retention: Seconds::new(100_000),
            max_bond_bps: Bps::new(20_000),
            max_no_show_bps: Bps::new(5_000),
            min_inconclusive_bps: Bps::ZERO,
            policies: Policy::Quorum.bit(),
        },
        gateways: vec![key(GATEWAY).address()],
        verifiers: Vec::new(),
    }
}

/// The buyer's operator in small: a sender, and the followed events as a list.
pub(crate) struct Buyer {
    pub(crate) sender: Sender,
    pub(crate) follower: Follower<MarketEvent>,
    pub(crate) events: Vec<(BlockNumber, MarketEvent)>,
    pub(crate) unwound: usize,
    pub(crate) now: u64,
}

impl Buyer {
    pub(crate) fn new(scene: &Scene) -> Self {
        let (sender, follower) = (scene.sender(BUYER), scene.follower());
        Self {
            sender,
            follower,
            events: Vec::new(),
            unwound: 0,
            now: 0,
        }
    }

    pub(crate) async fn step(&mut self) -> StepReport {
        self.now += 1_000;
        let report = self.sender.step(UnixMillis::new(self.now)).await.unwrap();
        assert_eq!(report.alerts, []);
        report
    }

    pub(crate) async fn follow(&mut self) {
        let mut updates = Vec::new();
        while !self.follower.step(&mut updates).await.unwrap().caught_up {}
        for update in updates {
            match update {
                Update::Applied { block, events } => {
                    self.events.extend(
                        events
                            .into_iter()
                            .map(|Logged { event, .. }| (block.number, event)),
                    );
                }
                Update::Unwound { events, .. } => {
                    self.unwound += events.len();
                    self.events.truncate(self.events.len() - events.len());
                }
                Update::Finalized { .. } => {}
            }
        }
    }

    /// Asks for an intent, and makes blocks until it is final.
    pub(crate) async fn do_finally(&mut self, scene: &Scene, intents: Vec<Intent>) {
        let ids: Vec<IntentId> = intents.iter().map(|intent| intent.id).collect();
        for intent in intents {
            self.sender.submit(intent, BlockNumber::ZERO).unwrap();
        }
        let is_final =
            |sender: &Sender, id: &IntentId| matches!(sender.state(*id), Some(IntentState::Final { .. }));
        for _ in 0..8 {
            self.step().await;
            scene.anvil.mine(1).await;
        }
        for id in &ids {
            assert!(is_final(&self.sender, id), "{:?}", self.sender.state(*id));
        }
        self.follow().await;
    }

    pub(crate) fn job_events(&self, job: JobId) -> Vec<&JobEvent> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                MarketEvent::Job {
                    job: found, event, ..
                } if *found == job => Some(event),
                MarketEvent::Job { .. } | MarketEvent::Ledger(_) | MarketEvent::Notice(_) => None,
            })
            .collect()
    }
}
