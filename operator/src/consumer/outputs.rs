//! Fetches the results of an agreed group from a provider whose signature stands under the list of them.
//!
//! What is checked is handed on; where it goes is [`super::delivery`]'s. Results that go to a volume never pass through
//! here: [`super::exporting`] has them fetched where the volume is.

use std::path::PathBuf;

use tradewind_chain::{Signature, recover};
use tradewind_gateway_api::{
    archive::Modes,
    client::GatewayClient,
    results::{self, FetchedUnit, Places, ResultsError, Wanted},
    seal::OpeningKey,
    signed::key_signature,
};
use tradewind_market::{Address, UnitIndex, eip712::Domain};

/// A group's checked results: the directories of its units are below `folder`, named by unit, where it is kept.
#[derive(Debug)]
pub(crate) struct FetchedGroup {
    /// In ascending order.
    pub(crate) units: Vec<FetchedUnit>,
    /// Holds the unpacked directories; removed when dropped.
    folder: tempfile::TempDir,
}

impl FetchedGroup {
    /// The directory that the unit wrote.
    pub(crate) fn directory(&self, unit: UnitIndex) -> PathBuf {
        results::unit_directory(self.folder.path(), unit)
    }
}

/// Fetches the group's results from one provider and checks them.
pub(crate) async fn fetch(
    gateways: &GatewayClient,
    domain: &Domain,
    key: &OpeningKey,
    wanted: &Wanted,
    provider: Address,
) -> Result<FetchedGroup, ResultsError> {
    let index = results::get_index(gateways, wanted, provider).await?;
    let signer = key_signature(&index.signature)
        .and_then(|bytes| recover(index.digest(domain), &Signature::from_bytes(bytes)).ok());
    if signer != Some(provider) {
        let what = "it is signed by another";
        return Err(ResultsError::Index { provider, what });
    }
    let folder = tempfile::tempdir().map_err(|source| ResultsError::Scratch {
        path: std::env::temp_dir(),
        source,
    })?;
    let places = Places {
        scratch: folder.path(),
        target: folder.path(),
        modes: Modes::ReadOnly,
    };
    let units = results::fetch(gateways, key, wanted, &index, places).await?;
    Ok(FetchedGroup { units, folder })
}
