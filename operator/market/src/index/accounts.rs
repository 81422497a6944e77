//! How events change balances, bonds, slots and what the market holds.

use super::Tables;
use super::fold::{Anomaly, fits};
use super::record::Bond;
use crate::amount::TokenAmount;
use crate::event::LedgerEvent;
use crate::ids::Address;
use crate::quantity::Slots;

impl Tables {
    pub(super) fn fold_ledger(&mut self, event: &LedgerEvent) -> Result<(), Anomaly> {
        match *event {
            LedgerEvent::Deposited {
                account,
                token,
                amount,
                ..
            } => {
                self.add_balance(account, token, amount)?;
                let held = self.held.get(&token).copied().unwrap_or_default();
                self.held.set(token, fits(held.checked_add(amount), "held")?);
            }
            LedgerEvent::Withdrawn {
                account,
                token,
                amount,
                ..
            } => {
                self.take_balance(account, token, amount)?;
                let held = self.held.get(&token).copied().unwrap_or_default();
                self.held.set(token, fits(held.checked_sub(amount), "held")?);
            }
            LedgerEvent::BondPosted {
                provider,
                token,
                amount,
                ..
            } => {
                self.take_balance(provider, token, amount)?;
                self.change_bond(provider, token, |bond| {
                    Some(Bond {
                        total: bond.total.checked_add(amount)?,
                        ..bond
                    })
                })?;
            }
            LedgerEvent::UnbondRequested {
                provider,
                token,
                amount,
                ready_at,
            } => {
                self.change_bond(provider, token, |bond| {
                    Some(Bond {
                        leaving: amount,
                        ready_at,
                        ..bond
                    })
                })?;
            }
            LedgerEvent::Unbonded {
                provider,
                token,
                amount,
            } => {
                self.change_bond(provider, token, |bond| {
                    let total = bond.total.checked_sub(amount)?;
                    Some(Bond {
                        total,
                        leaving: TokenAmount::ZERO,
                        ..bond
                    })
                })?;
                self.add_balance(provider, token, amount)?;
            }
            LedgerEvent::OffersCancelled {
                provider,
                series,
                min_nonce,
            } => {
                let mut entry = self.series.get(&(provider, series)).copied().unwrap_or_default();
                entry.min_nonce = entry.min_nonce.max(min_nonce);
                self.series.set((provider, series), entry);
            }
        }
        Ok(())
    }

    pub(super) fn add_balance(
        &mut self,
        account: Address,
        token: Address,
        amount: TokenAmount,
    ) -> Result<(), Anomaly> {
        let balance = self.balances.get(&(account, token)).copied().unwrap_or_default();
        self.balances
            .set((account, token), fits(balance.checked_add(amount), "balance")?);
        Ok(())
    }

    /// Takes from a balance. Once a job is quarantined its money is missing from the ledger, so that an honest
    /// event of another may find too little: the entry then stays within its range, and [`super::MarketIndex`]
    /// says that it is not exact. The same holds for bonds and slots.
    pub(super) fn take_balance(
        &mut self,
        account: Address,
        token: Address,
        amount: TokenAmount,
    ) -> Result<(), Anomaly> {
        let balance = self.balances.get(&(account, token)).copied().unwrap_or_default();
        let left = balance
            .checked_sub(amount)
            .or(self.unless_exact(TokenAmount::ZERO));
        self.balances.set((account, token), fits(left, "balance")?);
        Ok(())
    }

    pub(super) fn change_bond(
        &mut self,
        provider: Address,
        token: Address,
        change: impl FnOnce(Bond) -> Option<Bond>,
    ) -> Result<(), Anomaly> {
        let bond = self.bonds.get(&(provider, token)).copied().unwrap_or_default();
        let changed = change(bond).or(self.unless_exact(bond));
        self.bonds.set((provider, token), fits(changed, "bond")?);
        Ok(())
    }

    pub(super) fn change_slots(
        &mut self,
        provider: Address,
        series: u32,
        change: impl FnOnce(Slots) -> Option<Slots>,
    ) -> Result<(), Anomaly> {
        let mut entry = self.series.get(&(provider, series)).copied().unwrap_or_default();
        entry.used = fits(change(entry.used).or(self.unless_exact(entry.used)), "slots")?;
        self.series.set((provider, series), entry);
        Ok(())
    }

    fn unless_exact<T>(&self, value: T) -> Option<T> {
        self.quarantined.get(&()).map(|_| value)
    }
}
