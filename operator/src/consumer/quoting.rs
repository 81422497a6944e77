//! What a job would be opened with as things are: its terms, the seats that would be taken, and what they cost. It
//! binds nothing: the same is asked before anything is stored, to know what must be deposited, and again at the opening.

use std::collections::BTreeSet;

use tradewind_crds::compute_job::JobReason;
use tradewind_market::{
    ClassId, GroupIndex, GroupSet, Hash32, Terms, TokenAmount, UnixSeconds,
    matching::{Matching, Want},
};
use tradewind_result::ContentDigest;

use super::{
    Consumer, chain_unavailable,
    content::StoredTemplate,
    driving::Subject,
    memory::Memo,
    placing::{self, Search},
    preparing::refuse_spec,
    status::Stage,
    terms::{self, Asked, Circumstances},
};
use crate::shell::chain::ChainView;

/// Stands for a template that is not stored yet; no job is opened with it.
const NOT_STORED: StoredTemplate = StoredTemplate {
    blob: ContentDigest::from_bytes([0; 32]),
    digest: ContentDigest::from_bytes([0; 32]),
};

/// What a job would be opened with.
#[derive(Debug)]
pub(super) struct Quote {
    /// On these terms.
    pub(super) terms: Terms,
    /// With these seats.
    pub(super) matching: Matching,
    /// For this much, put in at once.
    pub(super) escrow: TokenAmount,
}

impl Consumer {
    /// Looks for seats, and reckons what they cost. Without a template the terms are those of a job whose content is
    /// not stored yet.
    pub(super) async fn quote(
        &self,
        view: &ChainView,
        subject: Subject<'_>,
        memo: &mut Memo,
        asked: &Asked,
        template: Option<StoredTemplate>,
        now: UnixSeconds,
    ) -> Result<Quote, Stage> {
        let Subject { object, identity, .. } = subject;
        let template = template.unwrap_or(NOT_STORED);
        let fee = self.fee().await.map_err(|error| chain_unavailable(&error))?;
        let gateways = self
            .gateway_accounts()
            .await
            .map_err(|error| Stage::BeforeMoney(JobReason::GatewayUnavailable, error.to_string()))?;
        let arguments = &self.context.args.consumer;
        let on_class = |class: ClassId| {
            let circumstances = Circumstances {
                windows: &arguments.windows,
                money: &arguments.money,
                fee,
                gateways: gateways.clone(),
                template_digest: Hash32::from_bytes(*template.digest.as_bytes()),
                template_address: Hash32::from_bytes(*template.blob.as_bytes()),
                key_commitment: identity.key_document.commitment(),
                class,
                now,
            };
            terms::terms(&object.spec, asked, circumstances).map_err(|error| refuse_spec(&error))
        };
        let open_terms = on_class(ClassId::ZERO)?;
        let wants = all_groups(&open_terms);
        let search = Search {
            job: identity.id,
            terms: &open_terms,
            asked,
            image: terms::repository(&object.spec.template.image),
            wants: &wants,
            budget: asked.budget,
        };
        let matching = placing::search(self, view, memo, search)
            .await
            .map_err(|error| Stage::BeforeMoney(JobReason::GatewayUnavailable, error.to_string()))?;
        let Some(class) = matching
            .class
            .filter(|_| starts_with_canary(&open_terms, &matching.filled))
        else {
            return Err(no_match(memo));
        };
        let terms = on_class(class)?;
        let escrow = escrow(&terms, &matching, asked.budget).ok_or_else(|| {
            Stage::Refused(
                JobReason::InvalidSpec,
                "the job's cost does not fit 128 bits".to_owned(),
            )
        })?;
        Ok(Quote {
            terms,
            matching,
            escrow,
        })
    }
}

fn all_groups(terms: &Terms) -> Vec<Want> {
    (0..terms.shape.groups().unwrap_or(0))
        .map(|group| Want {
            group: GroupIndex::new(group),
            seats: terms.redundancy.picked,
            seated: BTreeSet::new(),
        })
        .collect()
}

/// A canary cannot be left out, and without any group there is nothing to open.
fn starts_with_canary(terms: &Terms, filled: &GroupSet) -> bool {
    !filled.is_empty() && (!terms.redundancy.canary || filled.contains(GroupIndex::ZERO))
}

/// What is put in: what the chosen seats cost, and for groups that have to wait for free slots as much as they may
/// cost, within the budget. What is left over comes back.
fn escrow(terms: &Terms, matching: &Matching, budget: TokenAmount) -> Option<TokenAmount> {
    let mut total = matching.cost.total()?;
    for group in matching.unfilled.iter() {
        let units = terms.shape.group_units(group)?.count;
        total = total.checked_add(terms.cost_at_cap(units)?)?;
    }
    Some(total.min(budget))
}

/// Why no seats were found, in the one word that helps most.
pub(super) fn no_match(memo: &Memo) -> Stage {
    let of = |name: &str| {
        memo.refusals
            .iter()
            .find(|(reason, _)| reason == name)
            .map(|(_, count)| *count)
    };
    let counted = || {
        let mut counts = memo.refusals.clone();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let words: Vec<String> = counts
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        words.join(", ")
    };
    if memo.refusals.is_empty() {
        let message = "no offers in this token are published".to_owned();
        return Stage::BeforeMoney(JobReason::NoOffers, message);
    }
    let (reason, what) = if of("BudgetTooLow").is_some() {
        (
            JobReason::BudgetTooSmall,
            "the budget does not cover the offers that suit",
        )
    } else if of("TooFewOwners").is_some() {
        (
            JobReason::TooFewProviders,
            "too few different owners offer what suits",
        )
    } else {
        (JobReason::NoMatchingOffer, "no offer suits")
    };
    Stage::BeforeMoney(reason, format!("{what} (offers by reason: {})", counted()))
}
