//! What anyone may call and the buyer has not called for a while: judging, settling, closing.

use super::{Plan, ProviderStep};
use crate::plan::{closeable_from, judgeable_from, one_call, settleable_from};
use crate::quantity::UnixSeconds;
use crate::state::{GroupState, JobState};

impl Plan<'_> {
    /// What anyone may call, where the buyer has not for a while.
    pub(super) fn settle(&mut self) {
        let (newest, patience, now) = (self.newest, self.timing.settle_patience, self.now);
        let provider = self.view.provider;
        let late = |from: Option<UnixSeconds>, fallback: Option<UnixSeconds>| {
            // What can be done at once counts from the last deadline that was fixed.
            let from = from.map(|from| {
                if from == UnixSeconds::ZERO {
                    fallback.unwrap_or(from)
                } else {
                    from
                }
            });
            from.is_some_and(|from| now >= from.saturating_add(patience))
        };
        let mine = || {
            newest
                .seats_of(provider)
                .map(|(group, _, _, record)| (group, record))
        };
        let judge = mine().filter(|(group, record)| {
            let revealing = match record.state {
                GroupState::Revealing { reveal_by } => Some(reveal_by),
                GroupState::Filling
                | GroupState::Running { .. }
                | GroupState::Agreed { .. }
                | GroupState::Contested { .. }
                | GroupState::Refunding
                | GroupState::Credited { .. }
                | GroupState::Inconclusive
                | GroupState::Refunded => None,
            };
            late(judgeable_from(&newest, *group, record), revealing)
        });
        let judge = one_call(judge.map(|(group, _)| group));
        let settle = one_call(
            mine()
                .filter(|(_, record)| late(settleable_from(record), None))
                .map(|(group, _)| group),
        );
        let noticed = match newest.state {
            JobState::Cancelling { grace_until } => Some(grace_until),
            JobState::Open | JobState::Ended { .. } => None,
        };
        let close = one_call(
            mine()
                .filter(|(_, record)| late(closeable_from(&newest, record), noticed))
                .map(|(group, _)| group),
        );
        if !judge.is_empty() {
            self.steps.push(ProviderStep::Judge { groups: judge });
        }
        if !settle.is_empty() {
            self.steps.push(ProviderStep::Settle { groups: settle });
        }
        if !close.is_empty() {
            self.steps.push(ProviderStep::CloseGroups { groups: close });
        }
    }
}
