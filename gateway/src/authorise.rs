//! Who signed, and whether a grant is one.

use axum::http::{HeaderMap, header};
use serde::{Serialize, de::DeserializeOwned};
use tradewind_chain::{Signature, recover};
use tradewind_gateway_api::{
    grant::{GrantToken, Token},
    signed::key_signature,
    wire::Reason,
};
use tradewind_market::{
    Address, Hash32, UnixSeconds,
    document::StorageGrant,
    eip712::{Domain, StructHash},
    message::HexBytes,
};

use crate::http::Refused;

/// Who signed a digest. Contract accounts cannot be recovered and are not served in this version.
pub(crate) fn signer_of(digest: Hash32, signature: &HexBytes) -> Option<Address> {
    let bytes = key_signature(signature)?;
    recover(digest, &Signature::from_bytes(bytes)).ok()
}

/// Refuses a statement that its supposed signer did not sign.
pub(crate) fn require_signer(digest: Hash32, signature: &HexBytes, signer: Address) -> Result<(), Refused> {
    if signer_of(digest, signature) == Some(signer) {
        return Ok(());
    }
    Err(Refused::new(
        Reason::SignatureInvalid,
        format!("the signature is not {signer}'s over this statement in this market's domain"),
        "sign the very fields that are sent, for this chain and market, with the account's own key",
    ))
}

/// The grant that a request carries, with its signature checked and its time not over. What its signer may do is for
/// the caller to ask.
pub(crate) fn grant_of(
    headers: &HeaderMap,
    domain: &Domain,
    now: UnixSeconds,
) -> Result<(StorageGrant, GrantToken), Refused> {
    let ask = "send Authorization: Bearer with a storage grant";
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| Refused::new(Reason::GrantMissing, "this needs a storage grant", ask))?;
    let text = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    let text = text.ok_or_else(|| {
        Refused::new(
            Reason::GrantMalformed,
            "the authorization is no bearer token",
            ask,
        )
    })?;
    let token = GrantToken::parse(text).map_err(|error| {
        Refused::new(
            Reason::GrantMalformed,
            error.to_string(),
            "send the token as it was made",
        )
    })?;
    let grant = *token.grant();
    verify_grant(&token, grant.signer, grant.expires, domain, now)?;
    Ok((grant, token))
}

/// Refuses a grant whose time is over, or that its supposed signer did not sign.
pub(crate) fn verify_grant<G: StructHash + Serialize + DeserializeOwned>(
    token: &Token<G>,
    signer: Address,
    expires: UnixSeconds,
    domain: &Domain,
    now: UnixSeconds,
) -> Result<(), Refused> {
    if now > expires {
        return Err(Refused::new(
            Reason::GrantExpired,
            format!("the grant expired at {expires}"),
            "get a new grant from its signer",
        ));
    }
    if signer_of(token.digest(domain), token.signature()) != Some(signer) {
        return Err(Refused::new(
            Reason::GrantSignature,
            format!("the grant is not signed by {signer}"),
            "sign the grant's fields for this chain and market with the account's own key",
        ));
    }
    Ok(())
}
