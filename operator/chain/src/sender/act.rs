//! Does what was planned, one action after another: journal first, node second.

use tradewind_market::keccak256;

use super::fees::{Fees, FeesAboveCap};
use super::intent::{Intent, IntentId, IntentState};
use super::journal::{Attempt, Entry, IntentRef, JournalError, LABEL_CHARS_MAX, Record};
use super::plan::{Action, Alert, Broadcasts, Signed, View, WaitReason, is_in_flight};
use super::prepare::{self, Prepared, TRANSFER_GAS};
use super::transaction::{Payload, Transaction};
use super::{Sender, SenderError};
use crate::transport::RpcError;
use crate::{AccountNonce, BlockTag, UnixMillis, Wei};

/// What acting brought up.
#[derive(Debug, Default)]
pub(super) struct Acted {
    pub(super) alerts: Vec<Alert>,
    pub(super) waiting: Option<WaitReason>,
    pub(super) rejections: Vec<(AccountNonce, RpcError)>,
}

/// One pass of acting.
struct Pass<'a> {
    sender: &'a Sender,
    view: &'a View,
    broadcasts: &'a mut Broadcasts,
    now: UnixMillis,
    quote: Option<Result<Fees, FeesAboveCap>>,
    acted: Acted,
}

impl Sender {
    pub(super) async fn act(
        &self,
        view: &View,
        actions: &[Action],
        broadcasts: &mut Broadcasts,
        now: UnixMillis,
    ) -> Result<Acted, SenderError> {
        let mut pass = Pass {
            sender: self,
            view,
            broadcasts,
            now,
            quote: None,
            acted: Acted::default(),
        };
        for action in actions {
            match pass.perform(*action).await {
                Ok(()) => {}
                // Somebody else was quicker: the next step sees what they did.
                Err(SenderError::Journal(JournalError::Claimed { .. } | JournalError::Conflict { .. })) => {
                    pass.acted.waiting = Some(WaitReason::Contended);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(pass.acted)
    }
}

impl Pass<'_> {
    async fn perform(&mut self, action: Action) -> Result<(), SenderError> {
        match action {
            Action::Remove(nonce) => match self.view.slots.get(&nonce) {
                Some(slot) => Ok(self.sender.journal.remove(&slot.entry).await?),
                None => Ok(()),
            },
            Action::Broadcast(nonce) => match self.entry(nonce) {
                Some((entry, _)) => self.broadcast_newest(&entry).await,
                None => Ok(()),
            },
            Action::Replace(nonce) => match self.entry(nonce) {
                Some((entry, signed)) => self.replace(&entry, &signed).await,
                None => Ok(()),
            },
            Action::FillHole(nonce) => self.fill_hole(nonce).await,
            Action::Claim {
                first,
                transactions_max,
            } => self.claim_for_waiting(first, transactions_max).await,
        }
    }

    fn entry(&self, nonce: AccountNonce) -> Option<(Entry, Signed)> {
        let slot = self.view.slots.get(&nonce)?;
        Some((slot.entry.clone(), slot.signed.clone()?))
    }

    /// Today's fees, asked for once a pass; the alert is raised once, too.
    async fn quote(&mut self) -> Result<Option<Fees>, SenderError> {
        if self.quote.is_none() {
            let policy = &self.sender.config.fees;
            let history = self
                .sender
                .node
                .fee_history(policy.history_blocks, policy.percentile)
                .await?;
            let quote = policy.quote(&history);
            if let Err(FeesAboveCap { base_fee, cap }) = quote {
                self.acted.alerts.push(Alert::FeesAboveCap { base_fee, cap });
            }
            self.quote = Some(quote);
        }
        Ok(self.quote.and_then(Result::ok))
    }

    /// Hands the newest bytes over. Only the node's words are kept; the chain says what came of it.
    async fn broadcast_newest(&mut self, entry: &Entry) -> Result<(), SenderError> {
        let Some(attempt) = entry.record.attempts.last() else {
            return Ok(());
        };
        self.broadcasts.insert(attempt.tx, self.now);
        match self.sender.node.broadcast(&attempt.raw).await {
            Err(error) if !error.is_already_known() => {
                self.acted.rejections.push((entry.record.nonce, error));
            }
            Ok(()) | Err(_) => {}
        }
        Ok(())
    }

    /// For what cannot be outbid now: the same bytes, not more often than others.
    async fn broadcast_if_due(&mut self, entry: &Entry, signed: &Signed) -> Result<(), SenderError> {
        let wait = self.sender.config.rebroadcast_after;
        match self.broadcasts.get(&signed.newest) {
            Some(last) if !self.now.has_waited(*last, wait) => Ok(()),
            Some(_) | None => self.broadcast_newest(entry).await,
        }
    }

    async fn replace(&mut self, entry: &Entry, signed: &Signed) -> Result<(), SenderError> {
        let nonce = entry.record.nonce;
        let Some(quote) = self.quote().await? else {
            return self.broadcast_if_due(entry, signed).await;
        };
        let higher = self.sender.config.fees.replacement(signed.newest_fees, quote);
        let Some(fees) = higher.filter(|_| entry.record.has_room()) else {
            self.acted.alerts.push(Alert::CannotOutbid { nonce });
            return self.broadcast_if_due(entry, signed).await;
        };
        let attempt = self.sign(nonce, signed.payload.clone(), fees).await?;
        let revision = self.sender.journal.append(entry, &attempt).await?;
        let mut record = entry.record.clone();
        record.attempts.push(attempt);
        self.broadcast_newest(&Entry { record, revision }).await
    }

    async fn sign(&self, nonce: AccountNonce, payload: Payload, fees: Fees) -> Result<Attempt, SenderError> {
        let chain_id = self.sender.node.chain_id();
        let transaction = Transaction {
            chain_id,
            nonce,
            payload,
            fees,
        };
        let signed = transaction.sign(self.sender.signer.as_ref()).await?;
        debug_assert_eq!(signed.tx, keccak256(&[&signed.raw]));
        Ok(Attempt {
            tx: signed.tx,
            raw: signed.raw,
            signed_at: self.view.head,
        })
    }

    async fn fill_hole(&mut self, nonce: AccountNonce) -> Result<(), SenderError> {
        let Some(fees) = self.quote().await? else {
            return Ok(());
        };
        let payload = Payload {
            to: Some(self.sender.account()),
            data: Vec::new(),
            gas_limit: TRANSFER_GAS,
        };
        self.claim(nonce, payload, fees, Vec::new()).await
    }

    /// Journals, and only then broadcasts. A claim that came too late for its nonce is taken back: nothing was sent.
    async fn claim(
        &mut self,
        nonce: AccountNonce,
        payload: Payload,
        fees: Fees,
        intents: Vec<IntentRef>,
    ) -> Result<(), SenderError> {
        let attempt = self.sign(nonce, payload, fees).await?;
        let ids: Vec<IntentId> = intents.iter().map(|intent| intent.id).collect();
        let state = IntentState::Submitted {
            tx: attempt.tx,
            nonce,
        };
        let record = Record {
            account: self.sender.account_ref(),
            nonce,
            intents,
            attempts: vec![attempt],
        };
        let revision = self.sender.journal.claim(&record).await?;
        let entry = Entry { record, revision };
        // Between the look at the journal and the claim another process may have used this nonce and forgotten it.
        if self
            .sender
            .node
            .nonce(self.sender.account(), BlockTag::Latest)
            .await?
            > nonce
        {
            self.sender.journal.remove(&entry).await?;
            return Err(JournalError::Claimed { nonce }.into());
        }
        self.sender.memory().journaled(&ids, &state);
        self.broadcast_newest(&entry).await
    }

    async fn claim_for_waiting(
        &mut self,
        first: AccountNonce,
        transactions_max: usize,
    ) -> Result<(), SenderError> {
        let Some(fees) = self.quote().await? else {
            return Ok(());
        };
        let sender = self.sender;
        let balance = sender.node.balance(sender.account(), BlockTag::Latest).await?;
        let mut committed = self.committed();
        let mut nonce = first;
        for _ in 0..transactions_max {
            let waiting = sender.memory().waiting();
            let preparation =
                prepare::prepare(&sender.node, sender.account(), &waiting, &sender.config).await?;
            for (intent, refusal) in preparation.refused {
                sender.memory().refuse(intent.id, refusal);
            }
            let Some(Prepared { payload, intents }) = preparation.ready else {
                return Ok(());
            };
            let needed = cost(payload.gas_limit, fees).and_then(|cost| cost.checked_add(committed));
            let needed = needed.unwrap_or(Wei::new(u128::MAX));
            if needed > balance {
                self.acted.alerts.push(Alert::GasFundsLow { needed, balance });
                return Ok(());
            }
            self.claim(nonce, payload, fees, intents.iter().map(reference).collect())
                .await?;
            committed = needed;
            nonce = nonce.next();
        }
        self.acted.waiting = (sender.memory().queued() > 0).then_some(WaitReason::InFlightFull);
        Ok(())
    }

    /// What transactions in flight may cost at most.
    fn committed(&self) -> Wei {
        let in_flight = self.view.slots.values().filter(|slot| is_in_flight(slot));
        let costs = in_flight.filter_map(|slot| slot.signed.as_ref());
        costs
            .filter_map(|signed| cost(signed.payload.gas_limit, signed.newest_fees))
            .fold(Wei::ZERO, |sum, cost| sum.checked_add(cost).unwrap_or(sum))
    }
}

fn reference(intent: &Intent) -> IntentRef {
    let label = intent.label.chars().take(LABEL_CHARS_MAX).collect();
    IntentRef { id: intent.id, label }
}

fn cost(gas_limit: u64, fees: Fees) -> Option<Wei> {
    fees.max_fee.checked_mul(gas_limit)
}
