//! EIP-1559 transactions: made, signed, and read back from their signed bytes.

use ethers::types::transaction::eip1559::Eip1559TransactionRequest;
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{NameOrAddress, Signature as EthersSignature, U256};
use ethers::utils::rlp::Rlp;
use tradewind_market::{Address, Hash32, keccak256};

use super::fees::Fees;
use crate::convert::{to_address, to_h160, to_u64, to_u128};
use crate::keys::SignerError;
use crate::{AccountNonce, Preimage, Signer, Wei};

/// EIP-2718's number of EIP-1559 transactions.
const TYPE: u8 = 0x02;

/// What a transaction does: the same in every attempt at one nonce, while fees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    /// `None` makes a contract.
    pub(crate) to: Option<Address>,
    pub(crate) data: Vec<u8>,
    pub(crate) gas_limit: u64,
}

/// A whole transaction but for its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) chain_id: u64,
    pub(crate) nonce: AccountNonce,
    pub(crate) payload: Payload,
    pub(crate) fees: Fees,
}

/// Signed bytes and the hash that names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedTransaction {
    pub(crate) tx: Hash32,
    pub(crate) raw: Vec<u8>,
}

impl Transaction {
    fn request(&self) -> Eip1559TransactionRequest {
        let Self {
            chain_id,
            nonce,
            payload,
            fees,
        } = self;
        let mut request = Eip1559TransactionRequest::new()
            .chain_id(*chain_id)
            .nonce(nonce.get())
            .gas(payload.gas_limit)
            .max_fee_per_gas(fees.max_fee.get())
            .max_priority_fee_per_gas(fees.priority_fee.get())
            .value(U256::zero())
            .data(payload.data.clone());
        request.to = payload.to.map(|to| NameOrAddress::Address(to_h160(to)));
        request
    }

    pub(crate) async fn sign(&self, signer: &dyn Signer) -> Result<SignedTransaction, SignerError> {
        let request = self.request();
        let preimage = Preimage::transaction([&[TYPE], request.rlp().as_ref()].concat());
        let (r, s, v) = signer.sign(&preimage).await?.parts();
        let parity = v
            .checked_sub(27)
            .filter(|parity| *parity <= 1)
            .ok_or_else(|| SignerError::Refused {
                reason: format!("the signature ends with {v}, not 27 or 28"),
            })?;
        let signature = EthersSignature {
            r: U256::from_big_endian(&r),
            s: U256::from_big_endian(&s),
            v: parity.into(),
        };
        let raw = [&[TYPE], request.rlp_signed(&signature).as_ref()].concat();
        Ok(SignedTransaction {
            tx: keccak256(&[&raw]),
            raw,
        })
    }

    /// Reads signed bytes back, with the account that signed them.
    pub(crate) fn decode(raw: &[u8]) -> Result<(Self, Address), String> {
        let (kind, body) = raw.split_first().ok_or("no bytes")?;
        if *kind != TYPE {
            return Err(format!("transaction type {kind:#x} instead of {TYPE:#x}"));
        }
        let (request, signature) = Eip1559TransactionRequest::decode_signed_rlp(&Rlp::new(body))
            .map_err(|error| error.to_string())?;
        let sighash = TypedTransaction::Eip1559(request.clone()).sighash();
        let signer = signature.recover(sighash).map_err(|error| error.to_string())?;
        let number = |name: &str, number: Option<U256>| {
            number
                .and_then(to_u128)
                .ok_or_else(|| format!("{name} is missing or out of range"))
        };
        let gas_limit = request
            .gas
            .and_then(to_u64)
            .ok_or("gas limit is missing or out of range")?;
        let nonce = request
            .nonce
            .and_then(to_u64)
            .ok_or("nonce is missing or out of range")?;
        let fees = Fees {
            max_fee: Wei::new(number("max fee", request.max_fee_per_gas)?),
            priority_fee: Wei::new(number("priority fee", request.max_priority_fee_per_gas)?),
        };
        let to = match request.to {
            Some(NameOrAddress::Address(to)) => Some(to_address(to)),
            Some(NameOrAddress::Name(_)) | None => None,
        };
        let data = request.data.map(|data| data.to_vec()).unwrap_or_default();
        let chain_id = request
            .chain_id
            .map(|chain_id| chain_id.0[0])
            .ok_or("chain id is missing")?;
        let payload = Payload { to, data, gas_limit };
        Ok((
            Self {
                chain_id,
                nonce: AccountNonce::new(nonce),
                payload,
                fees,
            },
            to_address(signer),
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::LocalSigner;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn signed_bytes_read_back_as_what_was_signed(
            chain_id in 1u64..1 << 40,
            nonce in any::<u64>(),
            to in proptest::option::of(any::<[u8; 20]>()),
            data in proptest::collection::vec(any::<u8>(), 0..200),
            gas_limit in 21_000u64..30_000_000,
            max_fee in any::<u64>(),
            priority_fee in any::<u64>(),
        ) {
            let signer = LocalSigner::from_hex(&"1f".repeat(32)).unwrap();
            let payload = Payload { to: to.map(Address::from_bytes), data, gas_limit };
            let fees = Fees { max_fee: Wei::new(max_fee.into()), priority_fee: Wei::new(priority_fee.into()) };
            let transaction = Transaction { chain_id, nonce: AccountNonce::new(nonce), payload, fees };
            let signed = block_on(transaction.sign(&signer)).unwrap();
            prop_assert_eq!(&signed, &block_on(transaction.sign(&signer)).unwrap(), "signing repeats");
            prop_assert_eq!(Transaction::decode(&signed.raw), Ok((transaction, signer.address())));
        }

        #[test]
        fn any_bytes_at_all_are_read_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _read: Result<_, String> = Transaction::decode(&raw);
            let _read: Result<_, String> = Transaction::decode(&[&[TYPE, 0xf8, 0xff], raw.as_slice()].concat());
        }
    }
}
