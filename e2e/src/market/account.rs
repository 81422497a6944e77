//! Who is who on the lab's chain: one of anvil's well-known development accounts for each.

use sha2::{Digest as _, Sha256};

use crate::lab::{DEV_ACCOUNTS, DevAccount};

/// Who acts on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Deploys, and mints the lab's token.
    Deployer,
    /// Signs receipts; sends nothing.
    Gateway,
    /// The operator of the consumer's cluster.
    Consumer,
    /// The operator of the n-th provider cluster, from 0; at most seven.
    Provider(usize),
}

impl Role {
    /// Its account.
    pub fn account(self) -> &'static DevAccount {
        &DEV_ACCOUNTS[self.index()]
    }

    /// Which of the development accounts is its own.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Deployer => 0,
            Self::Gateway => 9,
            Self::Consumer => 1,
            Self::Provider(index) => 2 + index % 7,
        }
    }

    /// The seed that its operator derives secrets from: public knowledge, as its key is.
    pub fn seed(self) -> String {
        hex::encode(Sha256::digest(format!(
            "tradewind lab seed of {}",
            self.account().address
        )))
    }
}
