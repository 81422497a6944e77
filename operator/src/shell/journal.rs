//! The journal of transactions, kept in `ChainIntent` objects of the operator's own namespace.
//!
//! Creating an object claims its nonce, because its name holds chain, account and nonce and the API server
//! refuses a second one; appending replaces at a resourceVersion, so that of two writers one loses. It never
//! decides anything: what a nonce is used for, and when an entry may go, is the sender's to say.

use async_trait::async_trait;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions},
};
use tradewind_chain::{
    AccountNonce,
    sender::{AccountRef, Attempt, Entry, IntentId, IntentRef, Journal, JournalError, Record, Revision},
};
use tradewind_crds::{
    ChainIntent, ChainIntentSpec,
    chain_intent::{IntentPurpose, JournaledIntent, SignedTransaction},
    scalar::HashText,
};
use tradewind_market::{Address, BlockNumber, Hash32};

/// Carries the account, so that a list asks only for our own entries.
const ACCOUNT_LABEL: &str = "tradewind.dev/account";
const PAGE: u32 = 500;
/// The schema's bound on a label.
const LABEL_BYTES_MAX: usize = 128;

/// The journal in one namespace. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct KubeJournal {
    api: Api<ChainIntent>,
}

impl KubeJournal {
    /// In the operator's own namespace.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }
}

#[async_trait]
impl Journal for KubeJournal {
    async fn list(&self, account: AccountRef) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::new();
        // Without a resourceVersion the answer is as new as the question.
        let mut page = ListParams::default()
            .labels(&format!("{ACCOUNT_LABEL}={}", account.account))
            .limit(PAGE);
        loop {
            let list = self
                .api
                .list(&page)
                .await
                .map_err(|error| store("list", &error))?;
            for object in list.items {
                if object.spec.chain_id == account.chain_id {
                    entries.push(read(&object)?);
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(entries),
            }
        }
    }

    async fn claim(&self, record: &Record) -> Result<Revision, JournalError> {
        match self.api.create(&PostParams::default(), &write(record)).await {
            Ok(created) => revision(&created),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                Err(JournalError::Claimed { nonce: record.nonce })
            }
            Err(error) => Err(store("claim", &error)),
        }
    }

    async fn append(&self, entry: &Entry, attempt: &Attempt) -> Result<Revision, JournalError> {
        let nonce = entry.record.nonce;
        let mut object = write(&entry.record);
        object.metadata.resource_version = Some(entry.revision.0.clone());
        object.spec.signed.push(write_attempt(attempt));
        match self
            .api
            .replace(&name(&entry.record), &PostParams::default(), &object)
            .await
        {
            Ok(replaced) => revision(&replaced),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Err(JournalError::Conflict { nonce })
            }
            Err(error) => Err(store("append", &error)),
        }
    }

    async fn remove(&self, entry: &Entry) -> Result<(), JournalError> {
        let nonce = entry.record.nonce;
        let as_read = Preconditions {
            resource_version: Some(entry.revision.0.clone()),
            uid: None,
        };
        let only_as_read = DeleteParams {
            preconditions: Some(as_read),
            ..DeleteParams::default()
        };
        match self.api.delete(&name(&entry.record), &only_as_read).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => Err(JournalError::Conflict { nonce }),
            Err(error) => Err(store("remove", &error)),
        }
    }
}

fn name(record: &Record) -> String {
    let AccountRef { chain_id, account } = record.account;
    ChainIntent::name_for(chain_id, &account.to_string(), record.nonce.get())
}

fn store(operation: &'static str, error: &kube::Error) -> JournalError {
    JournalError::Store {
        operation,
        reason: error.to_string(),
    }
}

fn revision(object: &ChainIntent) -> Result<Revision, JournalError> {
    object
        .metadata
        .resource_version
        .clone()
        .map(Revision)
        .ok_or_else(|| JournalError::Store {
            operation: "read what it wrote",
            reason: "the API server gave no resourceVersion".to_owned(),
        })
}

fn write(record: &Record) -> ChainIntent {
    let Record {
        account,
        nonce,
        intents,
        attempts,
    } = record;
    let purpose = if intents.is_empty() {
        IntentPurpose::Fill
    } else {
        IntentPurpose::Call
    };
    let spec = ChainIntentSpec {
        chain_id: account.chain_id,
        account: account.account.to_string(),
        nonce: nonce.get(),
        purpose,
        intents: intents.iter().map(write_intent).collect(),
        signed: attempts.iter().map(write_attempt).collect(),
    };
    let metadata = ObjectMeta {
        name: Some(name(record)),
        labels: Some([(ACCOUNT_LABEL.to_owned(), account.account.to_string())].into()),
        ..ObjectMeta::default()
    };
    ChainIntent { metadata, spec }
}

fn write_intent(intent: &IntentRef) -> JournaledIntent {
    let mut label = intent.label.clone();
    label.truncate(label.floor_char_boundary(LABEL_BYTES_MAX));
    JournaledIntent {
        id: HashText(intent.id.to_string()),
        label,
    }
}

fn write_attempt(attempt: &Attempt) -> SignedTransaction {
    SignedTransaction {
        transaction: HashText(attempt.tx.to_string()),
        raw: format!("0x{}", hex::encode(&attempt.raw)),
        signed_at_block: attempt.signed_at.get(),
    }
}

/// An entry that cannot be read stops the sender: it may stand for a transaction that was sent.
fn read(object: &ChainIntent) -> Result<Entry, JournalError> {
    let unreadable = |what: &str| JournalError::Store {
        operation: "read an entry",
        reason: format!(
            "{} has {what}",
            object
                .metadata
                .name
                .as_deref()
                .unwrap_or("an entry without a name")
        ),
    };
    let hash = |text: &HashText| text.as_str().parse::<Hash32>();
    let ChainIntentSpec {
        chain_id,
        account,
        nonce,
        purpose: _,
        intents,
        signed,
    } = &object.spec;
    let account: Address = account.parse().map_err(|_| unreadable("an unreadable account"))?;
    let intents = intents.iter().map(|intent| {
        let id = hash(&intent.id).map_err(|_| unreadable("an unreadable intent"))?;
        Ok(IntentRef {
            id: IntentId::new(id),
            label: intent.label.clone(),
        })
    });
    let attempts = signed.iter().map(|signed| {
        let digits = signed.raw.strip_prefix("0x").unwrap_or(&signed.raw);
        Ok(Attempt {
            tx: hash(&signed.transaction).map_err(|_| unreadable("an unreadable transaction hash"))?,
            raw: hex::decode(digits).map_err(|_| unreadable("an unreadable transaction"))?,
            signed_at: BlockNumber::new(signed.signed_at_block),
        })
    });
    let record = Record {
        account: AccountRef {
            chain_id: *chain_id,
            account,
        },
        nonce: AccountNonce::new(*nonce),
        intents: intents.collect::<Result<_, JournalError>>()?,
        attempts: attempts.collect::<Result<_, JournalError>>()?,
    };
    Ok(Entry {
        record,
        revision: revision(object)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            account: AccountRef {
                chain_id: 31_337,
                account: Address::from_bytes([0xab; 20]),
            },
            nonce: AccountNonce::new(7),
            intents: vec![IntentRef {
                id: IntentId::new(Hash32::from_bytes([1; 32])),
                label: "open".into(),
            }],
            attempts: vec![Attempt {
                tx: Hash32::from_bytes([2; 32]),
                raw: vec![2, 0xff],
                signed_at: BlockNumber::new(99),
            }],
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let mut object = write(&record());
        object.metadata.resource_version = Some("5".into());
        assert_eq!(
            object.metadata.name.as_deref(),
            Some(format!("31337-{}-7", "ab".repeat(20)).as_str())
        );
        let entry = read(&object).unwrap();
        assert_eq!(
            entry,
            Entry {
                record: record(),
                revision: Revision("5".into())
            }
        );
        assert_eq!(object.spec.purpose, IntentPurpose::Call);
    }

    #[test]
    fn a_hole_filler_says_so() {
        let filler = Record {
            intents: vec![],
            ..record()
        };
        assert_eq!(write(&filler).spec.purpose, IntentPurpose::Fill);
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_not_passed_over() {
        let mut object = write(&record());
        object.metadata.resource_version = Some("5".into());
        object.spec.signed[0].raw = "0xzz".into();
        assert!(matches!(
            read(&object),
            Err(JournalError::Store {
                operation: "read an entry",
                ..
            })
        ));
    }
}
