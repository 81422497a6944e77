// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title Why the market refuses a whole call
/// @notice Each is a row of PROTOCOL.md, "Refusals".
interface IMarketErrors {
    /// The address is the zero address or the market itself.
    error AddressInvalid(address account);
    /// An amount of zero was asked for.
    error AmountZero();
    /// The account has less than it would take.
    error BalanceTooSmall(uint256 available, uint256 needed);
    /// The provider has less free bond than it would take.
    error BondTooSmall(uint256 available, uint256 needed);
    /// The call came to a part of the market instead of the market.
    error CalledDirectly();
    /// The list is empty or longer than allowed.
    error CountInvalid(uint256 count, uint256 max);
    /// Notice of cancellation was given; nothing new can be started.
    error JobCancelled(bytes32 jobId);
    /// The buyer's nonce was used for a job with other terms.
    error JobExists(bytes32 jobId, bytes32 termsHash);
    /// The time for fills and seals is over.
    error JobNotOpen(bytes32 jobId);
    /// There is no such job.
    error JobUnknown(bytes32 jobId);
    /// The market was deployed with parameters outside their bounds.
    error ParametersInvalid();
    /// Only the buyer may do this.
    error NotBuyer(bytes32 jobId, address caller);
    /// The bond cannot be taken yet, or nothing was asked back.
    error NotReady(uint64 readyAt);
    /// The message's deadline has passed.
    error MessageExpired(uint64 deadline);
    /// The code that keeps the job's fixed data could not be made: too little gas was given.
    error PageNotWritten(bytes32 jobId);
    /// The signature is not the signer's; with no signature, the caller is not the signer.
    error SignatureInvalid(address signer);
    /// Too little gas was given to ask a contract for its signature.
    error SignatureGasTooLow(uint256 available, uint256 needed);
    /// No function has this selector.
    error SelectorUnknown(bytes4 selector);
    /// A term is outside what the market allows; `term` names it in PROTOCOL.md.
    error TermsInvalid(bytes32 term);
    /// The terms given are not those that the job was opened with.
    error TermsMismatch(bytes32 jobId, bytes32 termsHash);
    /// The token moved another amount than it was asked to (fee on transfer, rebasing).
    error TransferInexact(address token, uint256 expected, uint256 actual);
}
