//! What the awarded providers of a job need beyond the chain: where its template is, and its key, sealed to each.

use tradewind_market::document::JobBundle;

use crate::signed::Signed;

/// Envelopes in one bundle: one per provider that holds a seat.
pub const ENVELOPES_MAX: usize = 4096;

/// Bytes of one envelope: an age file around a key and its salt.
pub const ENVELOPE_BYTES_MAX: usize = 4096;

/// A bundle, signed by the job's buyer. Public: of two for one job the later `issued` counts.
pub type SignedBundle = Signed<JobBundle>;
