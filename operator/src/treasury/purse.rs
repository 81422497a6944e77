//! What the account has outside the market, and which effects of the treasury the chain has seen. Reads only, but for
//! handing an act to the sender.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tradewind_chain::{
    BlockId, BlockTag,
    read::{ReadError, Reader},
    sender::{Intent, IntentId, IntentState},
};
use tradewind_market::{Address, TokenAmount};

use super::{
    Act, Counts,
    acts::{Purpose, intent_id},
};
use crate::shell::{chain::ChainView, context::Context};

/// More effects of one purpose on one token than an account will ever have; a bound on the search for an unused id.
const EFFECTS_MAX: u64 = 1 << 32;

/// The blocks that a decision is made from. What the node is asked is asked about the very block whose events were
/// followed: an effect that the one shows and the other does not would be wanted a second time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: BlockId,
    finalized: Option<BlockId>,
}

impl Moment {
    /// As of the newest block of the view, which may still be undone. What is undone is sent again under the same id
    /// and in the same order, so that nothing that was decided from it is done twice.
    pub(crate) fn newest(view: &ChainView) -> Option<Self> {
        Some(Self {
            at: view.head_block?.id,
            finalized: view.finalized_block,
        })
    }

    /// As of the final block of the view.
    pub(crate) fn finalized(view: &ChainView) -> Option<Self> {
        Some(Self {
            at: view.finalized_block?,
            finalized: view.finalized_block,
        })
    }
}

/// Asks about the account's money, and remembers what cannot change any more.
#[derive(Debug)]
pub(crate) struct Purse {
    context: Arc<Context>,
    reader: Reader,
    /// Effects whose ids are used for good, so that the search starts after them.
    counts: Mutex<BTreeMap<(Purpose, Address), u64>>,
}

impl Purse {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let reader = Reader::new(context.chain.node().clone(), context.market.domain.market);
        Self {
            context,
            reader,
            counts: Mutex::default(),
        }
    }

    /// What the account has of a token outside the market.
    pub(crate) async fn wallet(&self, token: Address, moment: Moment) -> Result<TokenAmount, ReadError> {
        let account = self.context.account();
        let at = BlockTag::Hash(moment.at.hash);
        self.reader.token_balance(token, account, at).await
    }

    /// What the market may pull of a token.
    pub(crate) async fn allowance(&self, token: Address, moment: Moment) -> Result<TokenAmount, ReadError> {
        let account = self.context.account();
        let at = BlockTag::Hash(moment.at.hash);
        self.reader.token_allowance(token, account, at).await
    }

    /// How many effects of each purpose the chain has seen.
    pub(crate) async fn counts(&self, token: Address, moment: Moment) -> Result<Counts, ReadError> {
        Ok(Counts {
            deposits: self.seen(Purpose::Deposit, token, moment).await?,
            bonds: self.seen(Purpose::Bond, token, moment).await?,
            withdrawals: self.seen(Purpose::Withdraw, token, moment).await?,
        })
    }

    /// How many deposits of a token the chain has seen.
    pub(crate) async fn deposits(&self, token: Address, moment: Moment) -> Result<u64, ReadError> {
        self.seen(Purpose::Deposit, token, moment).await
    }

    /// Does what the treasury is at, once.
    pub(crate) fn act(&self, act: Act, view: &ChainView) -> IntentState {
        let Act {
            id,
            leads_to,
            label,
            call,
            shareable,
        } = act;
        // What an approval is for may be on its way already, and have used it up.
        if let Some(state) = self.context.chain.state(IntentId::new(leads_to))
            && !state.is_at_an_end()
        {
            return state;
        }
        let intent = Intent {
            id: IntentId::new(id),
            label,
            call,
            shareable,
            gas_max: None,
        };
        self.context.chain.submit(intent, view)
    }

    async fn seen(&self, purpose: Purpose, token: Address, moment: Moment) -> Result<u64, ReadError> {
        let key = (purpose, token);
        let mut count = self.lock().get(&key).copied().unwrap_or_default();
        if let Some(finalized) = moment.finalized {
            count = self.first_unused(purpose, token, count, finalized).await?;
            self.lock().insert(key, count);
        }
        if moment.finalized == Some(moment.at) {
            return Ok(count);
        }
        self.first_unused(purpose, token, count, moment.at).await
    }

    async fn first_unused(
        &self,
        purpose: Purpose,
        token: Address,
        from: u64,
        at: BlockId,
    ) -> Result<u64, ReadError> {
        let mut count = from;
        while count < EFFECTS_MAX {
            let id = intent_id(purpose, token, count);
            let at = BlockTag::Hash(at.hash);
            if !self.reader.intent_used(self.context.account(), id, at).await? {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Purpose, Address), u64>> {
        // A cache is as good after a panic elsewhere as before.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
