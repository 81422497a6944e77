//! The tokens that carry grants: an account lets a holder store bytes in its name, up to a size and a time, or reach
//! hosts through its relay.
//!
//! It never checks the account's standing in the market; the gateway asks the chain for that.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use tradewind_market::{
    Hash32,
    document::{HostGrant, StorageGrant},
    eip712::{Domain, StructHash},
    message::HexBytes,
};

use crate::signed::SIGNATURE_BYTES_MAX;

/// Characters of a token.
pub const TOKEN_CHARS_MAX: usize = 4096;

/// A storage grant's token, as `Authorization: Bearer` carries it.
pub type GrantToken = Token<StorageGrant>;
/// A host grant's token, as the password of `Proxy-Authorization: Basic` carries it.
pub type HostToken = Token<HostGrant>;

/// A grant and its signature.
///
/// Its debug text leaves out the signature: whoever has the token can act in the signer's name.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<G> {
    grant: G,
    claims: String,
    signature: HexBytes,
}

/// Why a token cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantTokenError {
    /// Longer than any real one.
    #[error("a grant's token has at most {TOKEN_CHARS_MAX} characters")]
    TooLong,
    /// Not two parts with a dot between, or not base64url and hex.
    #[error("a grant's token is base64url JSON, a dot, and the signature as 0x and hex")]
    Form,
    /// The JSON is not a grant.
    #[error("the grant's claims cannot be read: {0}")]
    Claims(String),
}

impl<G: StructHash + Serialize + DeserializeOwned> Token<G> {
    /// A grant with its signature, ready to be sent.
    pub fn new(grant: G, signature: HexBytes) -> Result<Self, GrantTokenError> {
        let json = serde_json::to_vec(&grant).map_err(|error| GrantTokenError::Claims(error.to_string()))?;
        Ok(Self {
            grant,
            claims: URL_SAFE_NO_PAD.encode(json),
            signature,
        })
    }

    /// What it grants, if the signature holds.
    pub fn grant(&self) -> &G {
        &self.grant
    }

    /// The signature, unchecked.
    pub fn signature(&self) -> &HexBytes {
        &self.signature
    }

    /// What the signature must be over.
    pub fn digest(&self, domain: &Domain) -> Hash32 {
        domain.signing_digest(&self.grant)
    }

    /// The token's text. A secret: whoever reads it can use it.
    pub fn to_text(&self) -> String {
        format!("{}.{}", self.claims, self.signature)
    }

    /// From its text.
    pub fn parse(text: &str) -> Result<Self, GrantTokenError> {
        if text.len() > TOKEN_CHARS_MAX {
            return Err(GrantTokenError::TooLong);
        }
        let (claims, signature) = text.split_once('.').ok_or(GrantTokenError::Form)?;
        let digits = signature.strip_prefix("0x").ok_or(GrantTokenError::Form)?;
        let signature = hex::decode(digits)
            .map(HexBytes)
            .map_err(|_| GrantTokenError::Form)?;
        if signature.0.len() > SIGNATURE_BYTES_MAX {
            return Err(GrantTokenError::TooLong);
        }
        let json = URL_SAFE_NO_PAD
            .decode(claims)
            .map_err(|_| GrantTokenError::Form)?;
        let grant: G =
            serde_json::from_slice(&json).map_err(|error| GrantTokenError::Claims(error.to_string()))?;
        Ok(Self {
            grant,
            claims: claims.to_owned(),
            signature,
        })
    }
}

impl<G: fmt::Debug> fmt::Debug for Token<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tradewind_market::{Address, JobId, Nonce, UnixSeconds};

    use super::*;

    fn token() -> GrantToken {
        let grant = StorageGrant {
            signer: Address::from_bytes([0x11; 20]),
            job_id: JobId::from_bytes([0x22; 32]),
            holder: Hash32::from_bytes([0x33; 32]),
            max_bytes: 4096,
            expires: UnixSeconds::new(1_900_000_000),
            nonce: Nonce::new(7),
        };
        GrantToken::new(grant, HexBytes(vec![0xab; 65])).unwrap()
    }

    #[test]
    fn a_token_goes_through_text_unchanged_and_keeps_its_secret_out_of_logs() {
        let token = token();
        assert_eq!(GrantToken::parse(&token.to_text()), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("abab"), "{token:?}");
    }

    #[test]
    fn malformed_tokens_are_refused_by_name() {
        let good = token().to_text();
        assert_eq!(GrantToken::parse(""), Err(GrantTokenError::Form));
        assert_eq!(GrantToken::parse("a.b.c"), Err(GrantTokenError::Form));
        assert_eq!(
            GrantToken::parse(&good.replace('.', "_")),
            Err(GrantTokenError::Form)
        );
        assert_eq!(
            GrantToken::parse(&good.replace("0x", "")),
            Err(GrantTokenError::Form)
        );
        assert_eq!(
            GrantToken::parse(&"a".repeat(5000)),
            Err(GrantTokenError::TooLong)
        );
        assert_eq!(
            GrantToken::parse(&format!("{good}{}", "ab".repeat(1100))),
            Err(GrantTokenError::TooLong)
        );
        let none = format!("{}.0x00", URL_SAFE_NO_PAD.encode("{}"));
        assert!(matches!(
            GrantToken::parse(&none),
            Err(GrantTokenError::Claims(_))
        ));
    }
}
