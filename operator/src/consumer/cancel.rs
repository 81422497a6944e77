//! What outlives a deleted job: a record in the operator's own namespace that says "see this job to its end".
//!
//! Deleting a job, or its namespace, writes the record and frees the object at once, so nothing hangs on a chain that
//! is down. The record goes when no money is in the job any more. It holds names only: secrets are derived again.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use tradewind_market::{JobId, JobNonce, UnixSeconds};

/// Marks the records among the namespace's ConfigMaps.
const LABEL: &str = "tradewind.dev/record";
const LABEL_VALUE: &str = "cancelled-job";
const PAGE: u32 = 500;

/// A job to be cancelled and seen to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    /// The buyer's nonce: everything else of the job is derived from it.
    pub(crate) nonce: JobNonce,
    /// The job on chain.
    pub(crate) job: JobId,
    /// If the chain knows no such job after this, the opening never happened and never will.
    pub(crate) forget_after: UnixSeconds,
}

/// Why records could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// The API server did not answer, or refused.
    #[error("cancel records cannot be {operation}")]
    Api {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: kube::Error,
    },
}

/// The records of one operator.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    api: Api<ConfigMap>,
}

impl Records {
    /// In the operator's own namespace.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }

    /// Writes the record; one that is there already is the same.
    pub(crate) async fn leave(&self, record: Record, of: &str) -> Result<(), RecordError> {
        match self.api.create(&PostParams::default(), &write(record, of)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(source) => Err(RecordError::Api {
                operation: "written",
                source,
            }),
        }
    }

    /// All records. Ones that cannot be read are reported and left alone.
    pub(crate) async fn list(&self) -> Result<Vec<Record>, RecordError> {
        let mut records = Vec::new();
        let mut page = ListParams::default()
            .labels(&format!("{LABEL}={LABEL_VALUE}"))
            .limit(PAGE);
        loop {
            let list = self.api.list(&page).await.map_err(|source| RecordError::Api {
                operation: "listed",
                source,
            })?;
            for object in &list.items {
                let Some(record) = read(object) else {
                    let name = object.metadata.name.as_deref().unwrap_or_default();
                    tracing::error!(name, "a cancel record cannot be read; it is left alone");
                    continue;
                };
                records.push(record);
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(records),
            }
        }
    }

    /// Removes the record of a job that has ended, or never was.
    pub(crate) async fn forget(&self, job: JobId) -> Result<(), RecordError> {
        match self.api.delete(&name(job), &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(RecordError::Api {
                operation: "removed",
                source,
            }),
        }
    }
}

fn name(job: JobId) -> String {
    format!("cancelled-{}", job.to_string().trim_start_matches("0x"))
}

fn write(record: Record, of: &str) -> ConfigMap {
    let Record {
        nonce,
        job,
        forget_after,
    } = record;
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name(job)),
            labels: Some([(LABEL.to_owned(), LABEL_VALUE.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some(
            [
                ("nonce".to_owned(), nonce.to_string()),
                ("job".to_owned(), job.to_string()),
                ("forgetAfter".to_owned(), forget_after.to_string()),
                ("of".to_owned(), of.to_owned()),
            ]
            .into(),
        ),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

fn read(object: &ConfigMap) -> Option<Record> {
    let data = object.data.as_ref()?;
    Some(Record {
        nonce: data.get("nonce")?.parse().ok()?,
        job: data.get("job")?.parse().ok()?,
        forget_after: data.get("forgetAfter")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_damaged_one_is_not() {
        let record = Record {
            nonce: JobNonce::from_bytes([1; 32]),
            job: JobId::from_bytes([2; 32]),
            forget_after: UnixSeconds::new(99),
        };
        let object = write(record, "studio/flyby");
        assert_eq!(read(&object), Some(record));
        assert!(object.metadata.name.unwrap().len() <= 253);
        let mut damaged = write(record, "studio/flyby");
        damaged.data.as_mut().unwrap().insert("job".into(), "0x12".into());
        assert_eq!(read(&damaged), None);
    }
}
