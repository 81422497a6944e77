// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

// Bounds of the protocol (PROTOCOL.md, "Words"). They keep every loop finite and every packed field wide enough.

uint256 constant BPS = 10_000;
uint256 constant PPM = 1_000_000;
uint256 constant MAX_SEATS = 8;
uint256 constant MAX_GATEWAYS = 4;
uint256 constant MAX_OFFER_LIST = 8;
uint256 constant MAX_GROUPS = 10_000;
uint256 constant MAX_LIST = 256;
// Of a job: the first is made with it, one more by each later call that fills. A number of a page fits a byte.
uint256 constant MAX_PAGES = 256;
uint256 constant MAX_FEE_BPS = 200;
// Durations are below 2^31 seconds, so that sums of them fit the stored widths.
uint256 constant MAX_DURATION = 2 ** 31 - 1;
// At least this share of an unresolved group's pay is burned.
uint256 constant MIN_UNRESOLVED_BURN_BPS = 5_000;
// The group number of a notice that concerns a whole fill request.
uint32 constant WHOLE_REQUEST = type(uint32).max;
