//! The reconciler of ProviderOffers: keeps a bond posted, tries isolation, signs the offer and keeps it published.
//!
//! A pass looks at every offer, whatever woke it: the chain moves all of them, and there are few.

mod apply;
mod content;
mod observe;
mod preflight;
mod status;
mod validate;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use futures::StreamExt as _;
use kube::{Api, ResourceExt as _, core::DeserializeGuard};
use kube_runtime::{WatchStreamExt as _, reflector, watcher};
use tradewind_crds::{
    condition::ConditionStatus,
    provider_offer::{OfferCondition, OfferReason, ProviderOffer},
};
use tradewind_daemon::CancellationToken;
use tradewind_gateway_api::seal::{OpeningKey, SealError};
use tradewind_market::{
    Address, Knowledge, TokenAmount,
    plan::treasury::{TreasuryStep, TreasuryView, treasury_plan},
    state::{SeatState, SeatVerdict},
};

use self::{
    apply::{Applied, Publisher},
    content::{NamedGateway, Seller, Window, content},
    observe::Observer,
    preflight::{Isolation, Preflight},
    status::finding,
    validate::{Valid, validate},
};
use super::ProviderError;
use crate::{
    keys::Keys,
    shell::{self, chain::ChainView, context::Context},
    treasury::{Accounts, Moment, Purse, next_act},
};

pub(crate) use self::preflight::api_server;
pub(crate) use self::validate::series;

const KIND: &str = "ProviderOffer";
const YES: ConditionStatus = ConditionStatus::True;
const NO: ConditionStatus = ConditionStatus::False;
const UNKNOWN: ConditionStatus = ConditionStatus::Unknown;

/// The key that job keys are sealed to, for this provider.
pub(crate) fn opening_key(keys: &Keys) -> Result<OpeningKey, SealError> {
    OpeningKey::from_secret(&keys.derive(b"", "provider encryption key"))
}

type Guarded = DeserializeGuard<ProviderOffer>;

/// Reconciles until shutdown.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> Result<(), ProviderError> {
    let gate = context.readiness.gate("provider offers");
    gate.wait("the offers are not listed yet");
    let (store, writer) = reflector::store::<Guarded>();
    let api: Api<Guarded> = Api::all(context.client.clone());
    let mut changes = watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .touched_objects()
        .boxed();
    let mut chain = context.chain.subscribe();
    let offers = Offers::new(Arc::clone(&context))?;
    let mut leadership = context.leadership.clone();
    let mut resync = tokio::time::interval(context.args.resync);
    let mut leads = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            held = leadership.acquired(), if !leads => leads = held,
            change = changes.next() => match change {
                Some(Ok(_)) => gate.open(),
                Some(Err(error)) => tracing::warn!(%error, "the offers cannot be watched; trying again"),
                None => return Err(ProviderError::WatchEnded(KIND)),
            },
            block = chain.changed() => if block.is_err() { return Ok(()) },
            _ = resync.tick() => gate.open(),
        }
        let view = context.chain.view();
        if leads && context.leadership.holds() && view.caught_up {
            offers.pass(&store.state(), &view).await;
        }
    }
}

/// Everything that passes share.
#[derive(Debug)]
struct Offers {
    context: Arc<Context>,
    observer: Observer,
    preflight: Preflight,
    publisher: Publisher,
    purse: Purse,
    recipient: String,
    writes: status::Writes,
}

impl Offers {
    fn new(context: Arc<Context>) -> Result<Self, ProviderError> {
        let recipient = opening_key(&context.keys)?.recipient().to_string();
        Ok(Self {
            observer: Observer::new(Arc::clone(&context)),
            preflight: Preflight::new(Arc::clone(&context)),
            publisher: Publisher::new(Arc::clone(&context)),
            purse: Purse::new(Arc::clone(&context)),
            recipient,
            writes: status::Writes::new(context.args.provider.lease.lease_status_every),
            context,
        })
    }

    async fn pass(&self, objects: &[Arc<Guarded>], view: &ChainView) {
        let mut offers = Vec::new();
        for object in objects {
            match &object.0 {
                Ok(offer) => offers.push(offer),
                Err(error) => {
                    self.context
                        .metrics
                        .invalid_objects
                        .with_label_values(&[KIND])
                        .inc();
                    tracing::debug!(%error, "an offer cannot be read and is left alone");
                }
            }
        }
        let mut bonds: BTreeMap<Address, TokenAmount> = BTreeMap::new();
        let mut checked = Vec::new();
        for offer in offers {
            let valid = self.check(offer).await;
            if let Ok((valid, _)) = &valid
                && let Some(target) = valid.bond_target
            {
                let sum = bonds.entry(valid.token).or_insert(TokenAmount::ZERO);
                *sum = sum.checked_add(target).unwrap_or(TokenAmount::MAX);
            }
            checked.push((offer, valid));
        }
        for (offer, valid) in checked {
            let begun = Instant::now();
            let outcome = match self.reconcile(offer, valid, &bonds, view).await {
                Ok(()) => "done",
                Err(error) => {
                    tracing::warn!(offer = %offer.name_any(), %error, "the offer could not be carried out; trying again");
                    error.label()
                }
            };
            self.context
                .metrics
                .reconciled(KIND, outcome, begun.elapsed().as_secs_f64());
        }
    }

    /// Observes what validation needs, and validates.
    async fn check(
        &self,
        offer: &ProviderOffer,
    ) -> Result<(Valid, tradewind_market::Decimals), status::OfferFinding> {
        let token: Address = offer.spec.price.token.as_str().parse().map_err(|error| {
            finding(
                OfferCondition::Accepted,
                NO,
                OfferReason::InvalidSpec,
                format!("price.token: {error}"),
            )
        })?;
        let decimals = self.observer.decimals(token).await.map_err(|error| {
            finding(
                OfferCondition::Accepted,
                UNKNOWN,
                OfferReason::ChainUnavailable,
                format!("price.token cannot be asked for its decimals: {error}"),
            )
        })?;
        let namespace = offer.namespace().unwrap_or_default();
        validate(&namespace, &offer.name_any(), &offer.spec, decimals)
            .map(|valid| (valid, decimals))
            .map_err(|invalid| finding(OfferCondition::Accepted, NO, invalid.reason, invalid.message))
    }

    async fn reconcile(
        &self,
        offer: &ProviderOffer,
        valid: Result<(Valid, tradewind_market::Decimals), status::OfferFinding>,
        bonds: &BTreeMap<Address, TokenAmount>,
        view: &ChainView,
    ) -> Result<(), ProviderError> {
        let mut applied = Applied::default();
        match valid {
            Err(refused) => applied.findings.push(refused),
            Ok((valid, decimals)) => {
                self.standing(&valid, decimals, view, &mut applied);
                let ready = self.accepted(&valid, &mut applied).await
                    & self.bonded(offer, &valid, bonds, view, &mut applied).await?
                    & self.isolated(&mut applied).await;
                self.publish(offer, &valid, ready, view, &mut applied).await?;
            }
        }
        status::write(&self.context, offer, applied, &self.writes)
            .await
            .map_err(ProviderError::kubernetes("write the status of an offer"))
    }

    /// What the chain says of this offer's awards.
    fn standing(
        &self,
        valid: &Valid,
        decimals: tradewind_market::Decimals,
        view: &ChainView,
        applied: &mut Applied,
    ) {
        let account = self.context.account();
        let (mut earned, mut ended, mut agreed) = (TokenAmount::ZERO, 0_u64, 0_u64);
        for job in view.finalized().jobs_of_provider(account) {
            let Knowledge::Known(job) = view.finalized().job(job) else {
                continue;
            };
            for (_, _, seat, _) in job
                .seats_of(account)
                .filter(|(_, _, seat, _)| seat.series == valid.series)
            {
                if let SeatState::Settled { verdict, payout, .. } = seat.state {
                    earned = earned.checked_add(payout.paid).unwrap_or(TokenAmount::MAX);
                    ended += 1;
                    agreed += u64::from(verdict == SeatVerdict::Agreed);
                }
            }
        }
        applied.class = Some(valid.class.clone());
        applied.slots = Some((valid.slots, view.head().series(account, valid.series).used));
        applied.earned = Some((earned, decimals));
        // In thousandths, rounded down: no provider looks better than it is.
        applied.reliability = (agreed * 1000)
            .checked_div(ended)
            .map(|share| format!("{}.{:03}", share / 1000, share % 1000));
        applied.findings.push(finding(
            OfferCondition::Enrolled,
            YES,
            OfferReason::Enrolled,
            format!("offers are signed by {account}"),
        ));
    }

    async fn accepted(&self, valid: &Valid, applied: &mut Applied) -> bool {
        let (status, reason, message) = if valid.runtime_class.is_empty() {
            (
                YES,
                OfferReason::Valid,
                String::from("the offer can be carried out"),
            )
        } else {
            let name = &valid.runtime_class;
            match self.observer.runtime_class(name).await {
                Knowledge::Known(()) => (
                    YES,
                    OfferReason::Valid,
                    String::from("the offer can be carried out"),
                ),
                Knowledge::Absent => (
                    NO,
                    OfferReason::RuntimeClassMissing,
                    format!(
                        "terms.runtimeClass: the cluster has no RuntimeClass {name}; create it, or name another"
                    ),
                ),
                Knowledge::Unknown => (
                    UNKNOWN,
                    OfferReason::Waiting,
                    format!("looking for RuntimeClass {name}"),
                ),
            }
        };
        applied
            .findings
            .push(finding(OfferCondition::Accepted, status, reason, message));
        status == YES
    }

    async fn bonded(
        &self,
        offer: &ProviderOffer,
        valid: &Valid,
        bonds: &BTreeMap<Address, TokenAmount>,
        view: &ChainView,
        applied: &mut Applied,
    ) -> Result<bool, ProviderError> {
        let account = self.context.account();
        let bond = view.finalized().bond(account, valid.token);
        let balance = view.finalized().balance(account, valid.token);
        let target = bonds.get(&valid.token).copied().unwrap_or(TokenAmount::ZERO);
        let treasury = |wallet: Knowledge<TokenAmount>| {
            treasury_plan(&TreasuryView {
                wallet,
                balance: Knowledge::Known(balance),
                bond: Knowledge::Known(bond),
                bond_target: target,
                withdraw_from: self.context.args.provider.payout.map(|_| TokenAmount::ZERO),
            })
        };
        // The wallet costs requests, and matters only where there is something to do.
        let mut steps = treasury(Knowledge::Known(TokenAmount::MAX));
        if !steps.is_empty()
            && let (Some(finalized), Some(newest)) = (Moment::finalized(view), Moment::newest(view))
        {
            let wallet = self.purse.wallet(valid.token, finalized).await?;
            steps = treasury(Knowledge::Known(wallet));
            let accounts = Accounts {
                market: self.context.market.domain.market,
                token: valid.token,
                payout: self.context.args.provider.payout,
            };
            let counts = self.purse.counts(valid.token, finalized).await?;
            let allowance = self.purse.allowance(valid.token, newest).await?;
            if let Some(act) = next_act(&steps, accounts, counts, allowance) {
                let label = act.label.clone();
                let state = self.purse.act(act, view);
                tracing::debug!(offer = %offer.name_any(), label, state = state.label(), "treasury");
            }
        }
        let has_bond = bond.total > TokenAmount::ZERO;
        let short = steps.iter().find_map(|step| match step {
            TreasuryStep::Short { amount } => Some(*amount),
            TreasuryStep::Deposit { .. } | TreasuryStep::PostBond { .. } | TreasuryStep::Withdraw { .. } => {
                None
            }
        });
        let posting = steps
            .iter()
            .any(|step| matches!(step, TreasuryStep::PostBond { .. }));
        let status = if has_bond { YES } else { NO };
        let (reason, message) = if let Some(short) = short {
            (
                OfferReason::BalanceTooSmall,
                format!(
                    "the operator's account {account} lacks {short} base units of the token for the bond; send them to it, or lower bond.amount"
                ),
            )
        } else if posting && self.context.args.observe_only {
            (
                OfferReason::ObserveOnly,
                "the operator only observes; the bond is not posted".to_owned(),
            )
        } else if posting {
            (
                OfferReason::Submitting,
                "the bond is on its way to the chain".to_owned(),
            )
        } else if has_bond {
            (
                OfferReason::Bonded,
                format!("{} base units are bonded", bond.total),
            )
        } else {
            (
                OfferReason::BondTooSmall,
                "nothing is bonded; set bond.amount, or post a bond by hand".to_owned(),
            )
        };
        applied
            .findings
            .push(finding(OfferCondition::Bonded, status, reason, message));
        Ok(status == YES)
    }

    async fn isolated(&self, applied: &mut Applied) -> bool {
        let (status, reason, message) = match self.preflight.isolation(shell::now()).await {
            Knowledge::Known(Isolation::Holds) => (
                YES,
                OfferReason::Isolated,
                "a pod like a job's reached the relay and nothing else".to_owned(),
            ),
            Knowledge::Known(Isolation::Broken(what)) => (
                NO,
                OfferReason::NotIsolated,
                format!("a pod like a job's {what}; make the cluster's network enforce NetworkPolicies"),
            ),
            Knowledge::Absent | Knowledge::Unknown => (
                UNKNOWN,
                OfferReason::NotTried,
                "a pod like a job's is trying what it can reach".to_owned(),
            ),
        };
        applied
            .findings
            .push(finding(OfferCondition::Isolated, status, reason, message));
        status == YES
    }

    async fn publish(
        &self,
        offer: &ProviderOffer,
        valid: &Valid,
        ready: bool,
        view: &ChainView,
        applied: &mut Applied,
    ) -> Result<(), ProviderError> {
        let args = &self.context.args.provider;
        let window = Window::at(
            shell::now(),
            args.offer_validity,
            offer.metadata.generation.unwrap_or_default(),
        );
        let not = |reason, message: &str| finding(OfferCondition::Publishing, NO, reason, message);
        if offer.spec.suspend {
            self.publisher.withdraw(offer, valid.series, window.nonce, view);
            let awarded = applied.slots.is_some_and(|(_, awarded)| awarded.get() > 0);
            applied.findings.push(if awarded {
                not(
                    OfferReason::Draining,
                    "suspended; what is awarded is being finished",
                )
            } else {
                not(OfferReason::Suspended, "suspended, and nothing is left to finish")
            });
            return Ok(());
        }
        if self.context.args.observe_only {
            applied.findings.push(not(
                OfferReason::ObserveOnly,
                "the operator only observes and signs nothing",
            ));
            return Ok(());
        }
        if !ready {
            applied
                .findings
                .push(not(OfferReason::Waiting, "waits for the conditions before"));
            return Ok(());
        }
        let Knowledge::Known(gateways) = self.observer.gateways().await else {
            applied
                .findings
                .push(not(OfferReason::GatewayUnavailable, "no gateway says who it is"));
            return Ok(());
        };
        let content = self.content(valid, &gateways, window)?;
        self.publisher.publish(offer, content, window, applied).await
    }

    fn content(
        &self,
        valid: &Valid,
        gateways: &[NamedGateway],
        window: Window,
    ) -> Result<content::Content, ProviderError> {
        let args = &self.context.args.provider;
        let seller = Seller {
            account: self.context.account(),
            recipient: &self.recipient,
            bounds: args.bounds.bounds(valid.seconds_per_unit_max),
            gateways,
            missing_isolation: &[],
        };
        content(valid, &seller, window).map_err(ProviderError::Document)
    }
}
