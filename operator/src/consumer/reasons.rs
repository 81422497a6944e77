//! Why seats are missing or gave up, as the job's events on chain tell it: reasons by name, counted. Pure.

use std::collections::BTreeMap;

use tradewind_crds::compute_job::JobReason;
use tradewind_market::{
    index::{GroupRecord, Job},
    state::GroupState,
};

/// Seats are missing because the market passed over offers that had been chosen: someone else was quicker, or a block
/// in which they were taken is no more. Others are looked for.
pub(super) fn lost_offers(job: &Job<'_>) -> Option<(JobReason, String)> {
    let picked = usize::from(job.terms.redundancy.picked);
    let lacks = |group: &GroupRecord| group.state == GroupState::Filling && group.seats.len() < picked;
    let lacking = job.groups().filter(|(_, group)| lacks(group)).count();
    let refused = counted(job.refused_fills().map(|(_, refusal)| refusal.label()));
    (lacking > 0 && !refused.is_empty()).then(|| {
        let message = format!(
            "{lacking} of {} groups lack seats, since offers were taken by others first ({refused}); others are sought",
            job.record.groups
        );
        (JobReason::OfferLost, message)
    })
}

/// Why seats gave up, counted, as the end of a clause; empty where none did.
pub(super) fn abstentions(job: &Job<'_>) -> String {
    let reasons = job
        .groups()
        .flat_map(|(_, group)| &group.seats)
        .filter_map(|seat| Some(seat.abstained?.label()));
    let reasons = counted(reasons);
    if reasons.is_empty() {
        reasons
    } else {
        format!(" (seats abstained: {reasons})")
    }
}

/// Words and how often each occurs.
fn counted(words: impl Iterator<Item = &'static str>) -> String {
    let mut counts: BTreeMap<&'static str, u32> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(word, count)| format!("{word} {count}"))
        .collect();
    counts.join(", ")
}
