//! Messages that providers left at the gateways for the buyer to carry to the chain.
//!
//! Only messages that their providers signed are kept, a bounded number for each job. A cursor a gateway saves
//! reading them again; after a restart they are read from the start.

use std::collections::{BTreeMap, HashMap};

use tradewind_chain::{Call, Signature, calls, calls::Voucher, recover};
use tradewind_gateway_api::{
    client::{ClientError, GatewayClient},
    message::SignedMessage,
    signed::key_signature,
    wire::MessageFilter,
};
use tradewind_market::{Address, Hash32, JobId, eip712::Domain};

/// Messages kept of one job: one of each kind for every group of the largest job and its seats.
const MESSAGES_MAX: usize = 100_000;
/// Pages read at one look, so that one job cannot hold up the others.
const PAGES_MAX: usize = 16;

/// The messages of one job.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    messages: BTreeMap<Hash32, SignedMessage>,
    cursors: HashMap<String, u64>,
}

impl Mailbox {
    /// Reads what is new at every gateway. An error only where none of them answers.
    pub(crate) async fn refresh(
        &mut self,
        gateways: &GatewayClient,
        domain: &Domain,
        job: JobId,
    ) -> Result<(), ClientError> {
        let mut failure = None;
        let mut answered = false;
        for gateway in gateways.gateways() {
            let client = gateways.only(gateway);
            for _ in 0..PAGES_MAX {
                let after = self.cursors.get(gateway.as_str()).copied().unwrap_or_default();
                match client.messages(job, MessageFilter { after, limit: None }).await {
                    Ok(page) => {
                        answered = true;
                        self.cursors.insert(gateway.to_string(), page.next);
                        let done = page.messages.is_empty() || page.next == after;
                        for message in page.messages {
                            self.take(message, domain, job);
                        }
                        if done {
                            break;
                        }
                    }
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
        }
        match failure {
            Some(error) if !answered => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    fn take(&mut self, message: SignedMessage, domain: &Domain, job: JobId) {
        let genuine = message.job() == job && message.has_valid_count() && signer(&message, domain).is_some();
        if genuine && self.messages.len() < MESSAGES_MAX {
            self.messages.insert(message.struct_hash(), message);
        }
    }

    /// All messages, by the hash of what was signed.
    pub(crate) fn messages(&self) -> &BTreeMap<Hash32, SignedMessage> {
        &self.messages
    }

    /// The call that carries a message to the market.
    pub(crate) fn call(&self, market: Address, id: Hash32) -> Option<Call> {
        let message = self.messages.get(&id)?;
        let signature = Signature::from_bytes(key_signature(message.signature())?);
        let voucher = Voucher::Signed(signature);
        Some(match message {
            SignedMessage::Commit(signed) => calls::commit(market, &signed.statement, &voucher),
            SignedMessage::Abstain(signed) => calls::abstain(market, &signed.statement, &voucher),
            SignedMessage::Reveal(signed) => calls::reveal(market, &signed.statement, &voucher),
        })
    }
}

/// Who signed the message, if it is the provider that it names.
fn signer(message: &SignedMessage, domain: &Domain) -> Option<Address> {
    let signature = Signature::from_bytes(key_signature(message.signature())?);
    let signer = recover(message.digest(domain), &signature).ok()?;
    (signer == message.provider()).then_some(signer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_chain::{LocalSigner, Preimage, Signer};
    use tradewind_gateway_api::signed::Signed;
    use tradewind_market::{
        GroupIndex, SeatIndex, UnixSeconds,
        message::{Commit, CommitEntry, HexBytes, SeatRef},
    };

    const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

    fn domain() -> Domain {
        Domain {
            chain_id: 31_337,
            market: Address::from_bytes([9; 20]),
        }
    }

    async fn commit(provider: Address, job: JobId) -> SignedMessage {
        let signer = LocalSigner::from_hex(KEY).unwrap();
        let seat = SeatRef {
            group: GroupIndex::ZERO,
            round: 0,
            seat: SeatIndex::ZERO,
        };
        let statement = Commit {
            provider,
            job_id: job,
            deadline: UnixSeconds::new(1_900_000_000),
            entries: vec![CommitEntry {
                seat,
                commitment: Hash32::from_bytes([4; 32]),
            }],
        };
        let signature = signer
            .sign(&Preimage::message(&domain(), &statement))
            .await
            .unwrap();
        SignedMessage::Commit(Signed {
            statement,
            signature: HexBytes(signature.as_bytes().to_vec()),
        })
    }

    #[tokio::test]
    async fn only_what_a_provider_signed_for_this_job_is_kept() {
        let job = JobId::from_bytes([5; 32]);
        let provider = LocalSigner::from_hex(KEY).unwrap().address();
        let mut mailbox = Mailbox::default();
        mailbox.take(commit(Address::from_bytes([1; 20]), job).await, &domain(), job);
        mailbox.take(commit(provider, JobId::from_bytes([6; 32])).await, &domain(), job);
        assert!(mailbox.messages().is_empty());

        let genuine = commit(provider, job).await;
        mailbox.take(genuine.clone(), &domain(), job);
        mailbox.take(genuine.clone(), &domain(), job);
        assert_eq!(mailbox.messages().len(), 1);
        assert!(mailbox.call(domain().market, genuine.struct_hash()).is_some());
        assert!(mailbox.call(domain().market, Hash32::ZERO).is_none());
    }
}
