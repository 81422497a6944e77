//! Commitments, abstentions and reveals: posted at the gateways for the buyer to relay, or sent straight to the chain.

use tradewind_chain::{
    Call,
    calls::{self, Voucher},
};
use tradewind_gateway_api::{message::SignedMessage, signed::Signed};
use tradewind_market::{
    GroupIndex, UnixSeconds,
    eip712::StructHash,
    message::{AbstainEntry, AbstainReason, RoundMessage},
    plan::provider::{Delivery, MessageKind},
};

use super::Target;
use crate::provider::{
    ProviderError,
    lease::{Leases, memo::Memo},
};

impl Leases {
    pub(super) async fn commit(
        &self,
        target: &Target<'_>,
        groups: &[GroupIndex],
        by: Delivery,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let entries = groups
            .iter()
            .filter_map(|group| self.done(target, *group, memo))
            .map(|(place, result)| result.commit(&self.context.keys, &place))
            .collect();
        let message = self.message(
            target,
            entries,
            groups.iter().map(|group| target.commit_by(*group)),
        );
        let call = calls::commit(self.context.market.domain.market, &message, &Voucher::Caller);
        let said: Vec<_> = message.entries.iter().map(|entry| entry.seat.group).collect();
        self.say(
            target,
            MessageKind::Commit,
            &said,
            by,
            message,
            call,
            SignedMessage::Commit,
            memo,
        )
        .await
    }

    pub(super) async fn abstain(
        &self,
        target: &Target<'_>,
        groups: &[GroupIndex],
        reason: AbstainReason,
        by: Delivery,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let account = self.context.account();
        let seats = groups.iter().filter_map(|group| target.seat(account, *group));
        let entries = seats.map(|(seat, _)| AbstainEntry { seat, reason }).collect();
        let message = self.message(
            target,
            entries,
            groups.iter().map(|group| target.commit_by(*group)),
        );
        let call = calls::abstain(self.context.market.domain.market, &message, &Voucher::Caller);
        let said: Vec<_> = message.entries.iter().map(|entry| entry.seat.group).collect();
        let posted = said
            .iter()
            .all(|group| memo.posted.contains_key(&(MessageKind::Abstain, *group)));
        if !posted && !memo.direct.contains(&(MessageKind::Abstain, said.clone())) {
            self.metrics
                .abstentions
                .with_label_values(&[reason.label()])
                .inc();
            let (job, label) = (target.job.id, reason.label());
            if reason.is_of_the_program() {
                tracing::info!(%job, groups = ?said, reason = label, "seats are given back: the job's own limits were met");
            } else {
                tracing::warn!(%job, groups = ?said, reason = label, "seats are given back");
            }
        }
        self.say(
            target,
            MessageKind::Abstain,
            &said,
            by,
            message,
            call,
            SignedMessage::Abstain,
            memo,
        )
        .await
    }

    pub(super) async fn reveal(
        &self,
        target: &Target<'_>,
        groups: &[GroupIndex],
        by: Delivery,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let entries = groups
            .iter()
            .filter_map(|group| self.done(target, *group, memo))
            .map(|(place, result)| {
                let receipt = memo
                    .receipts
                    .get(&place.group)
                    .map(|receipt| (&receipt.statement, &receipt.signature));
                result.reveal(&self.context.keys, &place, receipt)
            })
            .collect();
        let message = self.message(
            target,
            entries,
            groups.iter().map(|group| target.reveal_by(*group)),
        );
        let call = calls::reveal(self.context.market.domain.market, &message, &Voucher::Caller);
        let said: Vec<_> = message.entries.iter().map(|entry| entry.seat.group).collect();
        self.say(
            target,
            MessageKind::Reveal,
            &said,
            by,
            message,
            call,
            SignedMessage::Reveal,
            memo,
        )
        .await
    }

    /// A message is good until the first of its entries' deadlines.
    fn message<E>(
        &self,
        target: &Target<'_>,
        entries: Vec<E>,
        deadlines: impl Iterator<Item = UnixSeconds>,
    ) -> RoundMessage<E> {
        RoundMessage {
            provider: self.context.account(),
            job_id: target.job.id,
            deadline: deadlines.min().unwrap_or(UnixSeconds::ZERO),
            entries,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one conversation for three kinds of messages"
    )]
    async fn say<E>(
        &self,
        target: &Target<'_>,
        kind: MessageKind,
        groups: &[GroupIndex],
        by: Delivery,
        message: RoundMessage<E>,
        call: Call,
        wrap: impl FnOnce(Signed<RoundMessage<E>>) -> SignedMessage,
        memo: &mut Memo,
    ) -> Result<(), ProviderError>
    where
        RoundMessage<E>: StructHash,
    {
        let job = target.job.id;
        if groups.is_empty() {
            return Ok(());
        }
        match by {
            Delivery::Relay => {
                let signed = wrap(self.sign(message).await?);
                self.context.gateways.post_message(job, &signed).await?;
                memo.posted
                    .extend(groups.iter().map(|group| ((kind, *group), target.now)));
                self.metrics
                    .messages
                    .with_label_values(&[kind_label(kind), "relay"])
                    .inc();
                tracing::info!(%job, ?groups, ?kind, "posted for the buyer to relay");
            }
            Delivery::Direct => {
                let state = self.submit(target, format!("{kind:?} {} groups of {job}", groups.len()), call);
                // Asked for again in each pass until it is seen on chain; told of once.
                if memo.direct.insert((kind, groups.to_vec())) {
                    self.metrics
                        .messages
                        .with_label_values(&[kind_label(kind), "direct"])
                        .inc();
                    tracing::info!(%job, ?groups, ?kind, state, "sent directly");
                }
            }
        }
        Ok(())
    }
}

fn kind_label(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Commit => "Commit",
        MessageKind::Abstain => "Abstain",
        MessageKind::Reveal => "Reveal",
    }
}
