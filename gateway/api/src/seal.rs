//! Encryption to readers: age with X25519 keys that are derived, never stored.
//!
//! Owns keys, sealing and opening of streams and of short documents. It never chooses who may read, and
//! never keeps a plaintext longer than its caller.

use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A header larger than this is refused before it is parsed: it has one stanza per reader, about 150 bytes.
const HEADER_BYTES_MAX: u64 = 16 * 1024;
/// What sealing adds at most to a document of up to 64 KiB for one reader: header, nonce and one tag.
/// Each further 64 KiB adds a tag of 16 bytes. Stated for sizing grants; not enforced.
pub const SEALING_OVERHEAD_BYTES: u64 = 512;

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A text is not an age X25519 key of the kind expected.
    #[error("not an age X25519 {kind}")]
    Key {
        /// `recipient` or `identity`.
        kind: &'static str,
    },
    /// Nothing can be sealed to nobody.
    #[error("no reader to seal to")]
    NoReader,
    /// The bytes are no sealed content, or their header is damaged or larger than any real one.
    #[error("not sealed content, or its header is damaged")]
    Header,
    /// The content was sealed to others.
    #[error("sealed to other readers")]
    OtherReader,
    /// The opened document is larger than its kind may be.
    #[error("larger than {limit} bytes when opened")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// Reading or writing failed; also when sealed content was changed or cut off after its header.
    #[error("sealed content cannot be read or written")]
    Io(#[from] io::Error),
}

/// Who can open: an age X25519 public key, `age1…` as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(age::x25519::Recipient);

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

impl FromStr for Recipient {
    type Err = SealError;
    fn from_str(text: &str) -> Result<Self, SealError> {
        text.parse()
            .map(Self)
            .map_err(|_| SealError::Key { kind: "recipient" })
    }
}

impl Serialize for Recipient {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The key that opens: an age X25519 identity. It shows itself to nobody: `Debug` prints its recipient.
#[derive(Clone)]
pub struct OpeningKey(age::x25519::Identity);

impl OpeningKey {
    /// The key of 32 derived bytes (clamped as X25519 does). The same bytes are the same key for ever.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, SealError> {
        let kind = SealError::Key { kind: "identity" };
        let hrp = bech32::Hrp::parse("age-secret-key-").map_err(|_| SealError::Key { kind: "identity" })?;
        let text = bech32::encode_upper::<bech32::Bech32>(hrp, secret).map(Zeroizing::new);
        text.ok().and_then(|text| text.parse().ok()).map(Self).ok_or(kind)
    }

    /// The key from its text, `AGE-SECRET-KEY-1…`.
    pub fn from_text(text: &str) -> Result<Self, SealError> {
        text.trim()
            .parse()
            .map(Self)
            .map_err(|_| SealError::Key { kind: "identity" })
    }

    /// The key's text, for a Secret or an envelope that only its reader opens.
    pub fn to_text(&self) -> Zeroizing<String> {
        use age::secrecy::ExposeSecret as _;
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// Whom others seal to so that this key opens.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey(of {})", self.0.to_public())
    }
}

/// Seals what is written to it. Without [`Sealer::finish`] the sealed content cannot be opened.
pub struct Sealer<W: Write>(age::stream::StreamWriter<W>);

impl<W: Write> fmt::Debug for Sealer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl<W: Write> Sealer<W> {
    /// Starts sealed content for `readers` in `output`. Sealing the same bytes again gives other bytes.
    pub fn new(readers: &[Recipient], output: W) -> Result<Self, SealError> {
        let readers = readers.iter().map(|reader| &reader.0 as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(readers).map_err(|_| SealError::NoReader)?;
        Ok(Self(encryptor.wrap_output(output)?))
    }

    /// Writes the end, which is what tells whole content from content that was cut off.
    pub fn finish(self) -> Result<W, SealError> {
        Ok(self.0.finish()?)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Opens sealed content as it is read, 64 KiB at a time; each part is authentic before it is given out,
/// and the end of content that was cut off is an error, not an end.
pub struct Opener<R: Read>(age::stream::StreamReader<BufReader<HeaderGuard<R>>>);

impl<R: Read> fmt::Debug for Opener<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

impl<R: Read> Opener<R> {
    /// Reads the header of `input` and finds the reader's part in it.
    pub fn new(key: &OpeningKey, input: R) -> Result<Self, SealError> {
        let left = Arc::new(AtomicU64::new(HEADER_BYTES_MAX));
        let guarded = HeaderGuard {
            input,
            left: Arc::clone(&left),
        };
        // A small buffer: what it reads beyond the header counts against the header's limit.
        let decryptor = age::Decryptor::new_buffered(BufReader::with_capacity(4096, guarded))
            .map_err(SealError::from_opening)?;
        let reader = decryptor
            .decrypt(std::iter::once(&key.0 as &dyn age::Identity))
            .map_err(SealError::from_opening)?;
        left.store(u64::MAX, Ordering::Relaxed);
        Ok(Self(reader))
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl SealError {
    fn from_opening(error: age::DecryptError) -> Self {
        match error {
            age::DecryptError::NoMatchingKeys | age::DecryptError::KeyDecryptionFailed => Self::OtherReader,
            age::DecryptError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => Self::Io(error),
            _ => Self::Header,
        }
    }
}

/// Ends a header that would not end: age reads one into memory as far as it goes.
struct HeaderGuard<R> {
    input: R,
    left: Arc<AtomicU64>,
}

impl<R: Read> Read for HeaderGuard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == u64::MAX {
            return self.input.read(buffer);
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = buffer
            .get_mut(..most)
            .map_or(Ok(0), |part| self.input.read(part))?;
        self.left.fetch_sub(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Seals a short document to `readers`.
pub fn seal_bytes(readers: &[Recipient], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut sealer = Sealer::new(readers, Vec::new())?;
    sealer.write_all(plaintext)?;
    sealer.finish()
}

/// Opens a short document of at most `limit` bytes.
pub fn open_bytes(key: &OpeningKey, sealed: &[u8], limit: u64) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let mut plaintext = Zeroizing::new(Vec::new());
    Opener::new(key, sealed)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut plaintext)?;
    if plaintext.len() as u64 > limit {
        return Err(SealError::TooLarge { limit });
    }
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> OpeningKey {
        OpeningKey::from_secret(&[seed; 32]).unwrap()
    }

    #[test]
    fn a_key_is_derived_from_its_bytes_alone_and_survives_its_text() {
        assert_eq!(key(1).recipient(), key(1).recipient());
        assert_ne!(key(1).recipient(), key(2).recipient());
        assert_eq!(
            OpeningKey::from_text(&key(7).to_text()).unwrap().recipient(),
            key(7).recipient()
        );
        let recipient = key(7).recipient();
        assert_eq!(recipient.to_string().parse::<Recipient>().unwrap(), recipient);
        assert!(!format!("{:?}", key(7)).contains(&**key(7).to_text()));
    }

    #[test]
    fn every_named_reader_opens_and_nobody_else() {
        let sealed = seal_bytes(&[key(1).recipient(), key(2).recipient()], b"scene").unwrap();
        for reader in [1, 2] {
            assert_eq!(&**open_bytes(&key(reader), &sealed, 5).unwrap(), b"scene");
        }
        assert!(matches!(
            open_bytes(&key(3), &sealed, 5),
            Err(SealError::OtherReader)
        ));
        assert!(matches!(
            open_bytes(&key(1), &sealed, 4),
            Err(SealError::TooLarge { limit: 4 })
        ));
        assert!(matches!(seal_bytes(&[], b"scene"), Err(SealError::NoReader)));
    }

    #[test]
    fn a_header_without_end_is_refused_early() {
        struct Endless(usize);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                const STANZA: &[u8] = b"-> X25519 AAAA\nAAAA\n";
                for byte in buffer.iter_mut() {
                    *byte = STANZA[self.0 % STANZA.len()];
                    self.0 += 1;
                }
                assert!(self.0 as u64 <= HEADER_BYTES_MAX, "read on and on");
                Ok(buffer.len())
            }
        }
        let endless = (&b"age-encryption.org/v1\n"[..]).chain(Endless(0));
        assert!(matches!(Opener::new(&key(1), endless), Err(SealError::Header)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn changed_or_cut_content_is_never_opened(
            length in 0_usize..200_000, at in any::<prop::sample::Index>(), cut in any::<bool>()
        ) {
            let plaintext: Vec<u8> = (0..=250).cycle().take(length).collect();
            let sealed = seal_bytes(&[key(1).recipient()], &plaintext).unwrap();
            prop_assert_eq!(&**open_bytes(&key(1), &sealed, 200_000).unwrap(), &plaintext[..]);
            let mut damaged = sealed.clone();
            if cut {
                damaged.truncate(at.index(sealed.len()));
            } else {
                damaged[at.index(sealed.len())] ^= 1;
            }
            prop_assert!(open_bytes(&key(1), &damaged, 200_000).is_err());
        }
    }
}
