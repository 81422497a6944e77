#![forbid(unsafe_code)]
use std::collections::HashSet;
pub mod errors {
    #[derive(Debug)]
    pub struct Error(pub(crate) ());
    impl std::fmt::Display for Error {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JWT is disabled in this build")
        }
    }
    impl std::error::Error for Error {}
    pub type Result<T> = std::result::Result<T, Error>;
}
use errors::*;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    HS256,
}
#[derive(Debug, Clone)]
pub struct Header(());
impl Header {
    pub fn new(_: Algorithm) -> Self {
        Header(())
    }
}
#[derive(Clone)]
pub struct EncodingKey(());
impl EncodingKey {
    pub fn from_secret(_: &[u8]) -> Self {
        Self(())
    }
}
#[derive(Clone)]
pub struct DecodingKey(());
impl DecodingKey {
    pub fn from_secret(_: &[u8]) -> Self {
        Self(())
    }
}
#[derive(Debug)]
pub struct TokenData<T> {
    pub header: Header,
    pub claims: T,
}
#[derive(Debug, Clone)]
pub struct Validation {
    pub validate_exp: bool,
    pub required_spec_claims: HashSet<String>,
}
impl Validation {
    pub fn new(_: Algorithm) -> Self {
        Self {
            validate_exp: true,
            required_spec_claims: HashSet::new(),
        }
    }
}
pub fn encode<T: serde::Serialize>(_: &Header, _: &T, _: &EncodingKey) -> Result<String> {
    Err(Error(()))
}
pub fn decode<T: serde::de::DeserializeOwned>(
    _: &str,
    _: &DecodingKey,
    _: &Validation,
) -> Result<TokenData<T>> {
    Err(Error(()))
}
pub fn get_current_timestamp() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map(|d| d.as_secs())
        .unwrap_or(0)
}
