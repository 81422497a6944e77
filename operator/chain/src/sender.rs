//! The durable sender: each intent's transaction is on the chain once, whatever the node, this process or a second
//! process with the same key do.
//!
//! - Signed bytes are journaled before they are broadcast; the journal's record claims the nonce.
//! - A node's reply to a broadcast is advice. What happened is read from the chain, and done with when final.
//! - After an error, a restart or a reorganisation the same bytes are sent again. A replacement keeps nonce and
//!   payload and raises both fees.
//! - A nonce that was used without a record stops the sender: another program has the key.
//!
//! [`Sender::step`] observes, plans and acts once; it keeps nothing that the next step, or another process, could not
//! derive again. What to do is planned purely, apart from the doing. It never decides what should be done: that is for who submits intents.

mod act;
mod config;
mod error;
mod fees;
mod intent;
mod journal;
mod memory;
mod memory_journal;
mod observe;
mod plan;
mod prepare;
mod transaction;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tradewind_market::{Address, BlockNumber};

use crate::transport::RpcError;
use crate::{AccountNonce, Node, Signer, UnixMillis};

pub use config::{SenderConfig, Sharing};
pub use error::{SenderError, SubmitError};
pub use fees::{FeePolicy, Fees};
pub use intent::{Intent, IntentId, IntentState, Refusal};
pub use journal::{
    ATTEMPTS_MAX, AccountRef, Attempt, Entry, IntentRef, Journal, JournalError, LABEL_CHARS_MAX, Record,
    Revision, SIGNED_BYTES_MAX,
};
use memory::Memory;
pub use memory_journal::MemoryJournal;
use observe::ReadBefore;
pub use plan::{Alert, WaitReason};
use plan::{Broadcasts, Plan, View};
pub(crate) use transaction::{Payload, Transaction};

/// What a step saw and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// Intents whose state changed since the last report.
    pub changes: Vec<(IntentId, IntentState)>,
    /// What a person must look at, as of now; the same again in every report until it is gone.
    pub alerts: Vec<Alert>,
    /// Why intents wait though nothing is wrong.
    pub waiting: Option<WaitReason>,
    /// Intents that nothing is signed for yet.
    pub queued: usize,
    /// Transactions that are in no block yet.
    pub in_flight: usize,
    /// Records in the journal.
    pub journaled: usize,
    /// What the node said to broadcasts that it did not accept. Advice only: they are sent again as needed.
    pub rejections: Vec<(AccountNonce, RpcError)>,
}

/// The durable sender of one account on one chain. Share it in an [`Arc`].
#[derive(Debug)]
pub struct Sender {
    node: Node,
    signer: Arc<dyn Signer>,
    journal: Arc<dyn Journal>,
    config: SenderConfig,
    memory: Mutex<Memory>,
    /// Held for a whole step, so that steps are exclusive.
    between_steps: tokio::sync::Mutex<BetweenSteps>,
}

/// What one step leaves to the next to spare the node and the processor. Losing it costs repetitions only.
#[derive(Debug, Default)]
struct BetweenSteps {
    broadcasts: Broadcasts,
    read_before: ReadBefore,
}

impl Sender {
    /// A sender for the signer's account on the node's chain. Nothing is read or sent yet.
    pub fn new(node: Node, signer: Arc<dyn Signer>, journal: Arc<dyn Journal>, config: SenderConfig) -> Self {
        let memory = Mutex::new(Memory::new(config.queue_max));
        Self {
            node,
            signer,
            journal,
            config,
            memory,
            between_steps: tokio::sync::Mutex::default(),
        }
    }

    /// The account that sends.
    pub fn account(&self) -> Address {
        self.signer.address()
    }

    fn account_ref(&self) -> AccountRef {
        AccountRef {
            chain_id: self.node.chain_id(),
            account: self.signer.address(),
        }
    }

    /// Asks for an intent, and says how far it is. `seen` is the last block of the events from which the caller
    /// concluded that it is wanted. Asking for what is under way, or final but not yet seen, changes nothing.
    pub fn submit(&self, intent: Intent, seen: BlockNumber) -> Result<IntentState, SubmitError> {
        self.memory().submit(intent, seen)
    }

    /// Withdraws an intent that nothing is signed for yet; `false` if there is none such.
    pub fn withdraw(&self, id: IntentId) -> bool {
        self.memory().withdraw(id)
    }

    /// How far an intent is, as of the last step; `None` if it is not known, which is also so after a restart until a
    /// step has read the journal.
    pub fn state(&self, id: IntentId) -> Option<IntentState> {
        self.memory().state(id)
    }

    /// Observes, plans and acts once. `now` only spaces repeated broadcasts. Safe to drop and to repeat at any point.
    pub async fn step(&self, now: UnixMillis) -> Result<StepReport, SenderError> {
        let mut between_steps = self.between_steps.lock().await;
        let BetweenSteps {
            broadcasts,
            read_before,
        } = &mut *between_steps;
        let account = self.account_ref();
        let view = observe::observe(
            &self.node,
            self.journal.as_ref(),
            account,
            &self.config,
            read_before,
        )
        .await?;
        forget_broadcasts(broadcasts, &view);
        let queued = {
            let mut memory = self.memory();
            memory.absorb(&view);
            memory.queued()
        };
        let Plan {
            mut alerts,
            mut waiting,
            actions,
        } = plan::plan(&view, broadcasts, queued, &self.config, now);
        let mut rejections = Vec::new();
        if !self.config.observe_only {
            let acted = self.act(&view, &actions, broadcasts, now).await?;
            alerts.extend(acted.alerts);
            waiting = acted.waiting.or(waiting);
            rejections = acted.rejections;
        }
        let mut memory = self.memory();
        Ok(StepReport {
            changes: memory.take_changes(),
            alerts,
            waiting,
            queued: memory.queued(),
            in_flight: view
                .slots
                .values()
                .filter(|slot| plan::is_in_flight(slot))
                .count(),
            journaled: view.slots.len(),
            rejections,
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Every change to it is whole before anything can panic.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is in a block need not be sent again; if the block is undone, it is, at once.
fn forget_broadcasts(broadcasts: &mut Broadcasts, view: &View) {
    let waiting = |slot: &&plan::Slot| slot.place == plan::Place::Waiting;
    let waiting: std::collections::BTreeSet<_> = view
        .slots
        .values()
        .filter(waiting)
        .filter_map(|slot| slot.signed.as_ref())
        .map(|signed| signed.newest)
        .collect();
    broadcasts.retain(|tx, _| waiting.contains(tx));
}
