//! The text form of 32 bytes: `0x` and 64 hex digits.

/// Why a text is not 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 0x and 64 hex digits")]
pub struct DigitsError;

pub(crate) fn parse(text: &str) -> Result<[u8; 32], DigitsError> {
    let digits = text.strip_prefix("0x").ok_or(DigitsError)?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| DigitsError)?;
    Ok(bytes)
}
